"""What babysit brings onto a rented box: one file, standard library only, for Python 3.8 and newer."""

__version__ = "0.1.0"
