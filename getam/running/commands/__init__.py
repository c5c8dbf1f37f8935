"""The commands that look at a run, use it, or keep order; none of them is a stage.

inspect, report, predict            look at a run and use it; their command line is cli_look
figures, classifier_figures         the tables of inspect
gallery                             the photos of the report
predicted                           what predict writes of each photo
review_queue, review_entries        the command review; its command line is cli_review
export, import_masks                to and from annotation tools; theirs is cli_exchange
choose                              tries short lists of settings
settings, named_runs                the commands config and runs; their command line is cli_keep
current                             the artifacts of a configuration
options                             options that several commands share

No key depends on this code.
"""
