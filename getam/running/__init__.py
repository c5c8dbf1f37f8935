"""Runs the stages: everything between the settings and the finished artifacts.

The run
    method           the stages, which the command line passes to the library
    opening          opens the runner for a configuration
    machine          a GPU or a CPU: which settings a preset takes
    context          device, number of processes and folders; no result depends on them
    datasets         opens the data set of a run; example and run_saliency know parts of it
    fingerprints     content digests of photos, labels and files; external_data and intensities too

Before the first stage
    preflight        refuses what a stage would refuse after hours; preflight_data does for the data
    known_networks   networks that are known to fit, so that torch need not be imported
    pretrained       downloads pretrained weights
    hints            notes about settings and labels that people often did not mean
    checking         opens the data set for the command data

The work
    processes        worker processes that share many photos
    photo_work       photos of one size together on a GPU, or each by a process
    team             one run by several processes, started by torchrun

When it ends early
    failures         what failed on this machine, in one sentence
    interruption     how a command ends that is stopped
    same_run         the command that continues the present run

commands             the commands that look at a run, or use its artifacts
"""
