"""Doctor: what is wrong with this set-up, each finding with the command that mends it. A check is a row."""
