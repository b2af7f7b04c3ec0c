"""The values that flow, frozen. No I/O, no clock, no judgement: only shapes and their rules."""
