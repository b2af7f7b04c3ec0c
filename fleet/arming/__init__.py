"""Arming: what is put onto a box, how a chain is made, started and stopped there. Acts, never judgement."""
