"""Steering from here: the shipped tool's commands on a box, asked over one short connection."""
