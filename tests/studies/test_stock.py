"""Every study that is shipped declares what it says, at its published and its debug size."""

import pytest

from gorl import config
from gorl.config.files import shipped
from gorl.errors import ConfigError
from gorl.studies.plan import make_plan

FOLDER = shipped().parent / "experiments"
STUDIES = sorted(p for p in FOLDER.rglob("*.gin") if "Study." in p.read_text() and "parts" not in p.parts)
DEBUG = FOLDER / "ablations" / "parts" / "debug.gin"


@pytest.mark.parametrize("path", STUDIES, ids=[p.stem for p in STUDIES])
def test_stock_studies(path):
    assert config.build([str(path)]).experiment.env_steps() > 0
    own = path.parent / "parts" / "debug.gin"
    plan = make_plan([str(path), str(own if own.exists() else DEBUG)])
    assert len(plan.variants) >= 2
    steps = [v.configuration.experiment.env_steps() for v in plan.variants]
    assert max(steps) < 10_000 and plan.seeds == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=[p.stem for p in STUDIES])
def test_stock_studies_at_their_published_size(path):
    assert len(make_plan([str(path)]).variants) >= 2


def test_there_are_studies():
    assert len(STUDIES) >= 10


@pytest.mark.parametrize(
    "study, part",
    [
        ("Study.variants = {'report': ['DISCOUNT = 0.9'], 'b': []}", "cannot be called 'report'"),
        ("Study.variants = {'Study.json': ['DISCOUNT = 0.9'], 'b': []}", "cannot be called 'Study.json'"),
        (f"Study.variants = {{'{'x' * 250}': ['DISCOUNT = 0.9']}}", "has a name of 250 characters"),
    ],
)
def test_a_variant_whose_folder_cannot_be_made_is_refused(study, part, tmp_path):
    (tmp_path / "study.gin").write_text(f"include 'ppo.gin'\n{study}\n")
    with pytest.raises(ConfigError) as err:
        make_plan([str(tmp_path / "study.gin")])
    assert part in str(err.value) and "study.gin:2: Study.variants" in str(err.value)
