"""Configurations: read -> check -> build -> save. Nothing outside this package knows gin's inside.

gin accepts in silence a typo in a scope, a macro nobody reads, a binding nothing uses, and `1e6` for an int. Here each is
an error that says what is wrong, where (file and line, or the command line), and how to write it. It reads private tables
of gin, so gin-config is pinned to 0.5.0.
"""

from gorl.config.build import Configuration as Configuration, build as build, build_here as build_here
from gorl.config.files import FORMAT as FORMAT, runnable_files as runnable_files, search_paths as search_paths
from gorl.config.reader import read as read
from gorl.config.studies import StudySource as StudySource, read_study as read_study, seed_bindings as seed_bindings
