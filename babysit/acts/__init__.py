"""Use cases, one file each: they join the layers, perform effects, and judge nothing themselves."""
