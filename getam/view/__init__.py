"""Output for people: tables, lines of progress, overlays, plots, and the HTML report."""
