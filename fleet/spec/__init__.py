"""babysit.toml: finding it, reading it, and saying all that is wrong with it at once."""
