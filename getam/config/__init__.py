"""Settings: what can be set, and how it is read.

schema            the whole configuration; ``label_settings`` and ``network_settings`` its sections
base              what the sections share
loading           YAML files, presets and ``--set`` to a configuration
"""
