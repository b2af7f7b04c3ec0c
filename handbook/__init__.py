"""L4, continuity: the text from which somebody brand-new takes over, and truth set against belief."""
