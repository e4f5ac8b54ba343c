"""The report: tables, figures and the page, from a run folder alone."""
