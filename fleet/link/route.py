"""How the ssh program is called for one box, on our terms, and what its log then means in our own words."""

from pathlib import Path

from fleet import clock
from fleet.errors import LinkError, UsageError
from fleet.link import causes, hostkeys
from fleet.link.address import Address
from fleet.link.algorithms import strong_settings
from fleet.link.base import COMMAND
from fleet.link.causes import Scene, Stage
from fleet.link.hostkeys import HostKey, Refuse, Shown
from fleet.link.ssh_config import GET_SSH, has_ssh, options_of, passwd_home, ssh_words
from fleet.link.sshlog import SshLog
from fleet.link.way import Parting
from fleet.model.probe import Cause, Unreachable
from fleet.model.spec import BoxSpec
from fleet.text.untrusted import decode, render_untrusted

_PIN_NAME = "babysit-pin"  # what the pinned key stands under, in a file of one visit

# Whatever ssh_config says. Of the command line and the files, ssh takes what it sees first.
_TERMS = (
    *(
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "NoHostAuthenticationForLocalhost=no",
        "UpdateHostKeys=no",
    ),
    *("ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "Tunnel=no", "PermitLocalCommand=no"),
    *("ControlMaster=no", "ControlPath=none", "ControlPersist=no", "ConnectionAttempts=1", "LogLevel=DEBUG2"),
    *("ServerAliveInterval=10", "ServerAliveCountMax=3"),
)
# With a pin no other voice counts.
_PIN_TERMS = (
    *(f"HostKeyAlias={_PIN_NAME}", "GlobalKnownHostsFile=/dev/null", "CheckHostIP=no", "VerifyHostKeyDNS=no"),
)
# Not every ssh knows these, so they are set only where `ssh -G` shows that ssh_config wants something else.
_UNWANTED = ("RemoteCommand=none", "SessionType=default", "ForkAfterAuthentication=no", "StdinNull=no")
_UNWANTED_WITH_PIN = ("KnownHostsCommand=none", "GSSAPIKeyExchange=no")


class Route:
    """What is the same for every ssh process of one link."""

    def __init__(self, box: BoxSpec, address: Address, pinned: HostKey | None) -> None:
        if not has_ssh():
            raise UsageError(
                'link = "ssh" needs the ssh program; there is none here',
                where=box.name,
                hint=f'or take link = "ssh" out of [box.{box.name}]',
                next=(GET_SSH,),
            )
        self.box = box
        self.address = address
        self.pinned = pinned
        self._options = options_of(box)

    def words(self, folder: Path, connect_limit_s: int) -> list[str]:
        """The command line of one ssh process, whose own files lie in `folder`."""
        settings = [*_TERMS, f"ConnectTimeout={connect_limit_s}", *self._settings(folder)]
        where = ("-l", self.box.user) if self.box.user else ()
        port = ("-p", str(self.box.port)) if self.box.port else ()
        terms = (word for setting in settings for word in ("-o", setting))
        log = ("-E", str(folder / "log"))
        return [*ssh_words(), "-T", *log, *terms, *where, *port, "--", self.box.host, COMMAND]

    def _settings(self, folder: Path) -> list[str]:
        found = []
        for setting in (*_UNWANTED, *(_UNWANTED_WITH_PIN if self.pinned else ())):
            option, _, plain = setting.partition("=")
            if self._options.get(option.lower(), [plain])[0].lower() != plain:
                found.append(setting)
        found += strong_settings(self._options)
        if self.pinned:
            found += [*_PIN_TERMS, f"UserKnownHostsFile={_file_word(str(folder / 'known_hosts'))}"]
        elif self._other_home:
            known = " ".join(map(_file_word, self.address.known_hosts)) or "/dev/null"
            found.append(f"UserKnownHostsFile={known}")
        if self.box.identity or self._other_home:
            found += [f"IdentityFile={_file_word(path)}" for path in self.address.identities]
        if self.box.identity:
            found.append("IdentitiesOnly=yes")
        if self.address.way is not None:  # on our terms: nobody asked, no key of a jump host taken on trust
            found.append(f"ProxyCommand={self.address.way.command.replace('%', '%%')}")
        return found

    @property
    def _other_home(self) -> bool:
        return str(Path.home()) != passwd_home()

    def known_hosts(self) -> bytes:
        """The file for a pinned key: that key, and those which the user has revoked."""
        revoked = hostkeys.known_in_user_files(self.address, only_revoked=True).keys
        lines = [f"@revoked {_PIN_NAME} {key.type} {key.b64}" for key in revoked]
        if self.pinned is not None:
            lines.append(f"{_PIN_NAME} {self.pinned.type} {self.pinned.b64}")
        return "".join(f"{line}\n" for line in lines).encode()

    def accepted(self, log: SshLog, took_s: float) -> HostKey | None:
        """The key that the box proved to have; None where not a key vouched for it, but a certificate.

        Raises LinkError where ssh let a key pass that our own judge does not, whatever made it do so.
        """
        verdict: hostkeys.Accept | Refuse
        if self.pinned is not None:
            key: HostKey | None = self.pinned
            same = log.shown is not None and _is(self.pinned, log.shown)
            verdict = hostkeys.Accept(pin=False) if same else Refuse("changed", self.pinned)
        elif log.vouched != "key" or log.shown is None:
            return None
        else:
            known = hostkeys.known_in_user_files(self.address).keys
            key = next((each for each in known if each.vouches and _is(each, log.shown)), None)
            if key is None:
                return None  # another source of ssh's knows it, such as a KnownHostsCommand
            key = HostKey(key.type, key.b64)
            verdict = hostkeys.judge(key, None, known)
        if isinstance(verdict, Refuse):
            raise self.host_key_error(verdict, log, took_s)
        return key

    def refusal(self, log: SshLog) -> Refuse | None:
        """Why ssh refused the box's key, None when it did not."""
        if log.refused is None or log.shown is None:
            return None
        if log.refused != "changed":
            return Refuse(log.refused)
        known = hostkeys.known_in_user_files(self.address).keys
        plain = [key for key in known if not key.mark]
        same_type = [key for key in plain if key.type == log.shown.type]
        return Refuse("changed", self.pinned or next(iter((*same_type, *plain)), None))

    def host_key_error(self, refuse: Refuse, log: SshLog, took_s: float) -> LinkError:
        """The error for a host key that was not accepted."""
        return causes.host_key_error(
            refuse,
            log.shown or Shown("none", "no key at all"),
            address=self.address,
            box_name=self.box.name,
            at=clock.now(),
            took_s=took_s,
            fault=log.certificate_fault,
        )

    def closed(self) -> LinkError:
        """The error for a run on a link that was closed, or has failed before."""
        says = f"the link to {self.address.host} was closed already"
        away = Unreachable(Cause.CUT, says, transient=True, at=clock.now(), took_s=0.0)
        return LinkError(away, where=self.box.name, next=(self.address.by_hand,))

    def failure(
        self, log: SshLog, *, took_s: float, limit_s: float, ran_out: bool, words: bytes
    ) -> LinkError | UsageError:
        """The error for an ssh process that has ended, or was ended (`ran_out`), with these last words."""
        refuse = self.refusal(log)
        if refuse is not None and not ran_out:
            return self.host_key_error(refuse, log, took_s)
        if log.stage == Stage.RESOLVE and log.error is None and not ran_out:
            said = log.last_words or decode(words).strip() or "nothing"
            return UsageError(
                f"ssh ended before it went to {self.address.host}, and said: {render_untrusted(said, 300)}",
                where=self.box.name,
                next=(self.address.by_hand,),
            )
        missing = [f"there is no key file {path}" for path in log.missing_keys]
        on_the_way = self.address.way is not None and not ran_out and log.stage == Stage.GREETING
        scene = Scene(
            stage=log.stage,
            took_s=took_s,
            limit_s=limit_s,
            ran_out=ran_out,
            hung_up=log.hung_up or (log.stage == Stage.COMMAND and not log.no_session),
            greeting=log.greeting,
            refused_keys=tuple(log.refused_keys),
            unusable_keys=(*log.unusable_keys, *(missing if self.address.identities_only else ())),
            locked_keys=tuple(log.locked_keys),
            no_common=log.no_common,
            parting=Parting(None, words) if on_the_way else None,
        )
        error = log.error or EOFError()
        return causes.link_error(error, scene, address=self.address, box_name=self.box.name, at=clock.now())


def _is(key: HostKey, shown: Shown) -> bool:
    return key.type == shown.type and key.fingerprint == shown.fingerprint


def _file_word(path: str) -> str:
    """A path as one word of an ssh_config line."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
