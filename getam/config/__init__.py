"""Settings: what can be set, and how it is read.

schema            the whole configuration; label_settings and network_settings are its sections
base              what the sections share
loading           YAML files, presets and --set to a configuration
plain_yaml        YAML as plain data, bounded in size
origin            which file a setting comes from
hub_models        models of Hugging Face transformers in the settings
names             which settings there are, unknown ones, values of another kind
mistakes          what a setting may be, and what a wrong value should have been
nearest           known names that are near to one that is not known
"""
