"""Output for people: tables, lines of progress, overlays, plots, and the HTML report.

table, lines, progress    text: tables, the plan and status of a run, the progress of a loop
comparison, data_report   the table of compare, the result of data
shown, program            text for a terminal, the name of the program in it
overlay, plot, fonts      pictures: maps and labels over photos, plots, letters
page                      the HTML report
review_page               the page of review
"""
