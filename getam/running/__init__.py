"""From a configuration to a run: the machinery around the stages.

method        the stages, as the command line hands them over
opening       a runner for a configuration
context       device, processes, places: what no result depends on
fingerprints  content digests of photos, labels and files
datasets      the data set of a run
team          several processes under torchrun; ``processes``: workers for many photos
commands      what looks at a run, or uses what it made
"""
