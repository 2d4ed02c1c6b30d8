"""Compute in the server of `warm_process` what commands need: template of the page, configs, tables of characters.

The server imports this module last. A forked command took 1.4 s of CPU time, and takes 0.6 s with these caches; they
return what Hydra and Jinja would, see `cached_composition`. The server itself has no state of Hydra.
"""

import gc

import pytest
from cached_composition import cache_composition
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from mtx.app.libyaml_reader import read_by_libyaml
from mtx.app.override_errors import CONFIG_NAME, hydra_loader
from mtx.data.score.contamination import unspaced_characters
from mtx.data.score.normal_form import folding_table
from mtx.data.score.text_features import character_table
from mtx.page.render import TEMPLATE, jinja_environment

COMMANDS = ([], ["task=prepare"], ["task=fit"])

read_by_libyaml()
cache_composition(pytest.MonkeyPatch())  # is never undone, as the server serves tests alone
with hydra_loader() as loader:
    for chosen in COMMANDS:
        for tokenizer in ([], ["tokenizer=byte"]):
            loader.load_configuration(CONFIG_NAME, [*chosen, *tokenizer], RunMode.RUN)
GlobalHydra.instance().clear()
for template in (TEMPLATE, "style.css.j2"):
    jinja_environment().get_template(template)
for table in (folding_table, unspaced_characters, character_table):
    table()
gc.collect()
gc.freeze()  # a collection in a forked process would copy the memory of all these objects
