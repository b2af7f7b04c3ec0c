"""Telling people: one message, one sender that can be killed, one courier that outlives a tick."""
