"""What this machine knows and must not forget: one SQLite file, its locks, and where they lie."""
