"""The command: verbs over acts."""
