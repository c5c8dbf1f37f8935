"""Runs the stages: everything between the settings and the finished artifacts.

method        the stages, which the command line passes to the library
opening       opens the runner for a configuration
machine       a GPU or a CPU: which settings a preset takes
context       device, number of processes and folders; no result depends on them
fingerprints  content digests of photos, labels and files
datasets      opens the data set of a run
team          one run by several processes, started by torchrun
processes     worker processes that share many photos
commands      the commands that look at a run, or use its artifacts
"""
