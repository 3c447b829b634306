"""Configurations: read -> check -> build -> save. Nothing outside this package uses gin's internals.

gin silently accepts a misspelled scope, a macro that is never read, a binding that is never used, and `1e6` for an int.
Here each is an error that says what is wrong, where (file and line, or the command line), and how to write it. The
package reads private tables of gin, so gin-config is pinned to 0.5.0.
"""

from gorl.config.build import Configuration as Configuration, build as build, build_here as build_here
from gorl.config.files import FORMAT as FORMAT, runnable_files as runnable_files, search_paths as search_paths
from gorl.config.reader import read_source as read_source
from gorl.config.studies import (
    StudySource as StudySource,
    read_study as read_study,
    seed_bindings as seed_bindings,
    seed_origin as seed_origin,
)
from gorl.config.tracing import trace_phases as trace_phases
