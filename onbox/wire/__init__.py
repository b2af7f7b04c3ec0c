"""The formats that lie in the folder of steering: shared by loops, commands and queue."""
