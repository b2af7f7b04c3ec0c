"""What the samples of a watched command tell: files read back, profiles, tables and curves."""
