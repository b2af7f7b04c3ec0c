"""`progress` around a real DataLoader with forked workers and a real loss, and bars of the real tqdm as the patrol reads them."""

import re

import pytest
from peers import PYTHON

from patrol.progress import read_news

TRAINING = """
import gc, sys, time, warnings, weakref
from pathlib import Path
warnings.simplefilter("error")
import torch
from torch.utils.data import DataLoader, Dataset
from onbox.pulse import progress, report

class Rows(Dataset):
    def __len__(self): return 48
    def __getitem__(self, n):
        time.sleep(0.01)
        return torch.tensor([n / 48]), torch.tensor([n / 24])

torch.manual_seed(1)
model = torch.nn.Linear(1, 1)
step = torch.optim.SGD(model.parameters(), lr=0.1)
kept = []
for epoch in progress(range(2), label="epoch", heartbeat_s=0.05):
    loader = DataLoader(Rows(), batch_size=4, num_workers=2, multiprocessing_context="fork")
    for x, y in progress(loader, heartbeat_s=0.05):
        loss = ((model(x) - y) ** 2).mean()
        step.zero_grad()
        loss.backward()
        step.step()
        progress.track(loss=loss, weights=model.weight, lr=0.1)
        kept.append(weakref.ref(loss))
        del loss
    while "HEARTBEAT" not in Path("out").read_text():
        time.sleep(0.01)
    report(epoch + 1, 2, train_loss=torch.tensor(0.5), val_loss=torch.tensor(float("nan")))
gc.collect()
print("kept alive:", sum(one() is not None for one in kept))
"""


@pytest.mark.timeout(180)
def test_a_real_training_with_forked_workers(folder):  # R145 R146
    one = folder.program("onbox", TRAINING)
    assert one.end(120) == 0, one.err()
    said = [line for line in one.out().splitlines() if "HEARTBEAT" not in line]
    assert said[-1] == "kept alive: 0"
    # Each worker has a heartbeat of nobody: between two beats lies what one thread waits.
    beats = [line for line in one.out().splitlines() if "HEARTBEAT" in line]
    assert beats and all(
        re.fullmatch(r"\[HEARTBEAT [\d:]+\] epoch \d/2(, batch \d+/12)?, \d+ s ago", beat) for beat in beats
    )
    assert "Traceback" not in one.err() and "Warning" not in one.err(), one.err()
    batches = [line for line in said if line.startswith("Batch")]
    assert {line.split()[1] for line in batches} >= {"1/12", "5/12", "10/12", "12/12"}
    assert all(re.search(r" - loss: [0-9.e-]+, lr: 0.1 - ", line) for line in batches), batches
    assert sum(line.startswith("[PROGRESS] Epoch ") for line in said) == 2
    assert "train_loss: 0.5, val_loss: nan" in one.out()
    assert one.ends()[1]["ended"] == "finished" and one.left_behind() == []


BARS = """
import sys, time
from tqdm import tqdm, trange
def slow(): time.sleep(0.3)
if sys.argv[0] and "HOW" == "epochs":
    for n in trange(20, desc="Epoch", mininterval=0):
        slow()
        if n == 4: break
elif "HOW" == "inner":
    for epoch in range(3, 5):
        for n in tqdm(range(4), desc="Epoch %d/9" % epoch, mininterval=0, postfix={"loss": 0.25}):
            slow()
            if epoch == 4 and n == 1: break
else:
    for n in tqdm(range(20), mininterval=0):
        slow()
        if n == 4: break
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("how", "unit", "index", "total"),
    [("epochs", "epoch", 4, 20), ("inner", "epoch", 4, 9), ("plain", "it", 4, 20)],
)
def test_a_trainer_that_only_prints_bars_is_read(how, unit, index, total, folder):  # R147 R42
    one = folder.program("onbox", BARS.replace("HOW", how))
    assert one.end(120) == 0, one.err()
    found = read_news(one.err_path.read_bytes()).progress
    assert (found.unit, found.index, found.total) == (unit, index, total), one.err()
    if how == "inner":
        assert found.part == 0.25 and found.values == (("loss", "0.25"),)
        assert 0 <= found.usual_step_s < 60
    else:
        assert 3 <= found.eta_s < 120
    assert PYTHON
