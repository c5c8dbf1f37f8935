"""The commands that look at a run, or use what it made, without being a stage of it.

inspect     a table of what is cached, overlays of single images
report      one HTML file for a whole run
predict     masks for new images
export      labels for annotation tools, the network for deployment

``current`` finds the artifacts of a configuration; ``options`` and ``cli`` are the command line.
None of this enters a key.
"""
