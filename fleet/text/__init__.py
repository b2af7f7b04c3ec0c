"""Text: templates and their fillers, one quote, one redact, one way to show what a box wrote."""
