"""The settings: layers, origins, secrets, and every fault at once with the nearest right name."""

from __future__ import annotations

import pickle
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hbpipe.config import (
    Settings,
    digest,
    json_schema,
    load_settings,
    resolve_secrets,
    resolved_view,
    window_days,
)
from hbpipe.errors import ConfigError
from hbpipe.model.families import FAMILIES
from hbpipe.report.keys import key_table

SOUND = """
pipeline: demo
events: {path: events, time: ts, levels: [chain_id, store_id]}
metrics:
  conversion: {family: beta_binomial, successes: converted, trials: rows}
lake: {path: lake}
"""
ROOT = Path(__file__).parent.parent


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str = SOUND, *overrides: str) -> Settings:
    return load_settings(write(folder, text), overrides=overrides)


def faults(folder: Path, text: str = SOUND, *overrides: str) -> list[str]:
    """Return the lines of the error, the path of the file put as FILE."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert caught.value.exit_code == 2
    head, *lines = caught.value.found.split("\n")
    assert head == f"{len(lines)} fault(s) in the settings:"
    return [line.strip().replace(str(folder / "a.yaml"), "FILE") for line in lines]


def test_defaults(tmp_path):
    settings = load(tmp_path)
    assert settings.events.timezone == "UTC"
    assert settings.events.horizon == 7
    assert settings.inference.window == 28
    assert settings.pool_by == ("chain_id",)
    assert settings.events.unit == "store_id"
    assert settings.environment == "prod"
    assert [metric.name for metric in settings.parsed_metrics] == ["conversion"]
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValueError, match="frozen"):
        settings.pipeline = "other"


def test_every_fault_is_told_at_once(tmp_path):
    found = faults(
        tmp_path,
        """
pipeline: Demo
evnts: {a: 1}
events:
  path: events
  time: ts
  timezon: UTC
  timezone: Europe/Pariss
  day_start: 10:30
  levels: [chain_id, store_id]
  horizon: 7
metrics:
  conversion: {family: beta_binomal}
  basket: {family: normal, values: amount, target: high, where: [[a, "=", 1]]}
  9lives: {family: normal, value: x}
inference: {pool_by: [chain], quantiles: [0.5, 1.5], window: 4 weeks, estimator: mle}
lake: {path: lake, storage_option: {a: b}}
cluster: {kind: lokal, workers: 0}
audits: {max_rejected_share: 2}
""",
    )
    expected = [
        ("pipeline: ", "pattern"),
        ("evnts: ", "unknown key; did you mean 'events'?"),
        ("events.timezon: ", "unknown key; did you mean 'timezone'?"),
        ("events.timezone: ", "unknown time zone 'Europe/Pariss'"),
        ("events.day_start: ", "(quoted), found 630"),
        ("events.horizon: ", "expected a number of days such as 28d, found 7"),
        ("metrics.conversion: ", "unknown family 'beta_binomal'; did you mean 'beta_binomial'?"),
        ("metrics.basket: ", "unknown key 'values'; did you mean 'value'?"),
        ("metrics.basket: ", "family normal needs value"),
        ("metrics.basket: ", "target must be a finite number, found 'high'"),
        ("metrics.basket: ", "unknown operator '='; did you mean"),
        ("metrics.9lives: ", "pattern"),
        ("inference.pool_by: ", "'chain' is not a level; did you mean 'chain_id'?"),
        ("inference.quantiles: ", "different numbers between 0 and 1"),
        ("inference.window: ", "expected a number of days such as 28d, found '4 weeks'"),
        ("inference.estimator: ", "pattern"),
        ("lake.storage_option: ", "unknown key; did you mean 'storage_options'?"),
        ("cluster.kind: ", "'local', 'serial' or 'address'"),
        ("cluster.workers: ", "greater than or equal to 1"),
        ("audits.max_rejected_share: ", "less than or equal to 1"),
    ]
    for place, message in expected:
        assert any(line.startswith(place) and message in line for line in found), (place, found)
    assert {line.partition(": ")[0] + ": " for line in found} == {place for place, _ in expected}
    assert all(line.endswith("[from FILE]") for line in found)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pipelin=x", "pipelin: unknown key; did you mean 'pipeline'?"),
        ("extend=x", "extend: unknown key; did you mean 'extends'?"),
        ("events.level=[a]", "events.level: unknown key; did you mean 'levels'?"),
        ("stores.keep=3d", "stores.keep: unknown key; did you mean 'keep_silent'?"),
        ("inference.windows=3d", "inference.windows: unknown key; did you mean 'window'?"),
        ("metrics.conversion.succeses=x", "metrics.conversion: unknown key 'succeses'; did you"),
        ("metrics.conversion.trials={colum: n}", "metrics.conversion: unknown key 'colum' in"),
        ("metrics.conversion.fixed={alhpa: 5}", "fixed: unknown 'alhpa'; did you mean 'alpha'?"),
        ("metrics.conversion.per=7d", "metrics.conversion: per goes with an exposure"),
        ("metrics.conversion.transform=log", "transform goes with a value column"),
        ("metrics.conversion.trials={column: n, transform: log}", "trials may not"),
        ("metrics.conversion=x", "metrics.conversion: needs a family, one of"),
        ("events=5", "events: "),
        ("events.path=''", "events.path: "),
        ("events.levels=[a, A]", "levels must differ, not only in case"),
        ("events.levels=[a, Metric]", "'Metric' is a column of the tables that are written"),
        ("events.levels=[]", "events.levels: "),
        ("events.day=d", "give either time (timestamp or ISO text) or day (a date column)"),
        ("events.earliest=2100-01-01", "earliest 2100-01-01 is after latest 2099-12-31"),
        ("events.horizon=0d", "found '0d'"),
        ("events.complete_after=6", "expected a duration such as 6h, 90m or 1d, found 6"),
        ("events.ready=_ready/day", "expected a path with {day} in it"),
        ("lake.lease_s=0", "greater than 0"),
        ("inference.pool_by=[store_id]", "a pool needs many units"),
        ("inference.nest_by=[chain]", "'chain' is not a level; did you mean 'chain_id'?"),
        ("inference.nest_by=[store_id]", "a group needs many units"),
        ("inference.estimator=reml", "beta_binomial of conversion has no restricted likelihood"),
        ("inference.estimator=reml:chung", "beta_binomial of conversion has no restricted"),
        ("inference.estimator=ml:lahiri", "inference.estimator: "),
        ("inference.estimator=moments:x", "beta_binomial of conversion has no moments:x"),
        ("inference.quantiles=[0.5, 0.50000001]", "quantiles name columns by six digits"),
        ("inference.quantiles=[.nan]", "between 0 and 1"),
        ("stores.keep_silent=all", "stores.keep_silent: expected a number of days"),
        ("cluster.kind=address", "address goes with kind: address"),
        ("cluster.workers=two", "cluster.workers: "),
    ],
)
def test_one_fault_is_one_place(tmp_path, override, message):
    found = faults(tmp_path, SOUND, override)
    assert message in found[0]
    assert len({line.partition(": ")[0] for line in found}) == 1
    key = override.partition("=")[0]
    assert f"--set {key}" in found[0].rpartition("[from ")[2]


THREE = """
pipeline: demo
events: {path: events, time: ts, levels: [chain_id, region, store_id]}
metrics:
  conversion: {family: beta_binomial, successes: converted, trials: rows}
inference: {nest_by: [chain_id, region]}
lake: {path: lake}
"""


def test_nested_levels_and_the_pools_above_them(tmp_path):
    one = load(tmp_path, THREE, "metrics.conversion.nest=[region]")
    assert one.pool_by == ()
    assert one.nest_by(one.parsed_metrics[0]) == ("region",)
    other = load(tmp_path, THREE, "inference.nest_by=[region]")
    assert other.pool_by == ("chain_id",)
    assert other.nest_by(other.parsed_metrics[0]) == ("region",)
    none = load(tmp_path, THREE, "metrics.conversion.nest=false")
    assert none.nest_by(none.parsed_metrics[0]) == ()


SPREAD = "{family: normal_inverse_gamma, value: amount}"
VALUE = "{family: normal, value: amount}"


def test_what_can_be_held_of_nested_levels(tmp_path):
    law = "{tau_region: 0.5, tau_region_spread: 0.3, correlation_region: 0}"
    one = load(
        tmp_path, THREE, "metrics.conversion.nest=[region]", f"metrics.conversion.fixed={law}"
    )
    assert one.parsed_metrics[0].fixed == {
        "tau_region": 0.5,
        "tau_region_spread": 0.3,
        "correlation_region": 0.0,
    }
    held = f"{VALUE[:-1]}, fixed: {{sigma: 2, tau_chain_id: 0, tau_region: 1}}}}"
    two = load(tmp_path, THREE, f"metrics.conversion={held}")
    assert two.parsed_metrics[0].fixed == {"sigma": 2.0, "tau_chain_id": 0.0, "tau_region": 1.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("inference.nest_by=[region, chain_id]",), "inference.nest_by: each level once, coarse"),
        ((), "beta_binomial takes 1 nested level, found 2; set nest to that whose groups"),
        (("metrics.conversion.nest=[store]",), "'store' is not a level of inference.nest_by"),
        (("metrics.conversion.nest=true",), "nest is false, or levels of inference.nest_by"),
        (("metrics.conversion.nest=[region, chain_id]",), "in the order of inference.nest_by"),
        ((f"metrics.conversion={SPREAD}",), "normal_inverse_gamma has no nested levels; set nest"),
        (("inference.pool_by=[region]",), "'region' of pool_by is not above 'chain_id'"),
        (("inference.estimator=moments",), "nested levels have no estimator moments"),
        (("inference.estimator=ml:chung",), "nested levels have no estimator ml:chung"),
        (("inference.uncertainty=first_order",), "nested levels have no uncertainty first_order"),
        (
            (f"metrics.conversion={VALUE[:-1]}, fixed: {{tau_chain: 1}}}}",),
            "fixed: 'tau_chain' is of no nested level; can be held: mu, tau, sigma, tau_chain_id, "
            "tau_region",
        ),
        (
            (f"metrics.conversion={VALUE[:-1]}, nest: false, fixed: {{tau_region: 1}}}}",),
            "fixed: 'tau_region' is of no nested level; can be held: mu, tau, sigma",
        ),
        (
            ("metrics.conversion.nest=[region]", "metrics.conversion.fixed={tau_chain_id: 1}"),
            "tau_region, tau_region_spread, correlation_region",
        ),
        (("metrics.conversion.fixed={tau_region: none}",), "fixed.tau_region must be a finite"),
    ],
)
def test_faults_of_nested_levels(tmp_path, overrides, message):
    assert any(message in line for line in faults(tmp_path, THREE, *overrides))


def test_each_layer_lies_over_the_one_before(tmp_path, monkeypatch):
    write(tmp_path, SOUND, "base.yaml")
    main = write(
        tmp_path,
        "extends: base.yaml\n"
        "inference: {window: 14d, estimator: moments}\n"
        "events: {horizon: 3d, timezone: Europe/Paris}\n"
        "metrics: {conversion: {family: beta_binomial, successes: sold, trials: visits}}\n",
    )
    write(tmp_path, "inference: {window: 7d}\nlake: {path: dev}\n", "env/dev.yaml")
    monkeypatch.setenv("HBPIPE__INFERENCE__ESTIMATOR", "map")
    monkeypatch.setenv("HBPIPE__EVENTS__HORIZON", "5d")
    monkeypatch.setenv("HBPIPE__METRICS__CONVERSION__TARGET", "0.1")
    settings = load_settings(main, "dev", ["events.horizon=6d", "cluster.workers=2"])
    assert settings.events.path == "events"
    assert settings.events.timezone == "Europe/Paris"
    assert settings.inference.window == 7
    assert settings.inference.estimator == "map"
    assert settings.events.horizon == 6
    (metric,) = settings.parsed_metrics
    assert metric.roles["successes"].column == "sold"  # a file replaces a metric whole
    assert metric.target == 0.1  # a single key of it may be set
    origins = {
        "pipeline": tmp_path / "base.yaml",
        "events.timezone": main,
        "inference.window": tmp_path / "env/dev.yaml",
        "inference.estimator": "variable HBPIPE__INFERENCE__ESTIMATOR",
        "events.horizon": "--set events.horizon",
        "cluster.workers": "--set cluster.workers",
        "metrics.conversion": main,
        "metrics.conversion.target": "variable HBPIPE__METRICS__CONVERSION__TARGET",
        "audits.max_rejected_share": "default",
    }
    assert {key: settings.origin(key) for key in origins} == {k: str(v) for k, v in origins.items()}
    assert load_settings(main).inference.window == 14


def test_what_is_replaced_whole_leaves_no_origin_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("HBPIPE__METRICS__CONVERSION__TARGET", "0.1")
    whole = "metrics.conversion={family: beta_binomial, successes: a, trials: b, target: 0.2}"
    settings = load(tmp_path, SOUND, whole)
    assert settings.parsed_metrics[0].target == 0.2
    assert settings.origin("metrics.conversion.target") == "--set metrics.conversion"


def test_a_chain_of_extends_and_its_circles(tmp_path):
    write(tmp_path, SOUND, "shared/base.yaml")
    write(tmp_path, "extends: base.yaml\ninference: {window: 3d}\n", "shared/more.yaml")
    assert load(tmp_path, "extends: shared/more.yaml\n").inference.window == 3
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    for text in ("extends: b.yaml\n", "extends: a.yaml\n"):
        with pytest.raises(ConfigError, match="extends leads in a circle"):
            load(tmp_path, text)
    with pytest.raises(ConfigError, match="expected: the path of one file"):
        load(tmp_path, "extends: [b.yaml]\n")
    with pytest.raises(ConfigError, match=r"no settings file .*c.yaml; did you mean .*[ab].yaml"):
        load(tmp_path, "extends: c.yaml\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file holds no settings"),
        ("- a\n", "the file holds no settings"),
        ("a: [\n", "not readable as YAML"),
        ("a: 1\nb: {c: 1, c: 2}\n", "key 'c' is given twice"),
        ("a: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
        ("# " + "x" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_settings(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_missing_files_and_overlays_suggest_their_neighbours(tmp_path):
    write(tmp_path, SOUND, "demo.yaml")
    write(tmp_path, "{}", "env/prod.yaml")
    with pytest.raises(ConfigError, match=r"did you mean .*demo\.yaml"):
        load_settings(tmp_path / "dmeo.yaml")
    with pytest.raises(ConfigError, match=r"did you mean .*prod\.yaml"):
        load_settings(tmp_path / "demo.yaml", "prd")


@pytest.mark.parametrize("override", ["inference.window", "=3", "events.path={"])
def test_overrides_that_cannot_be_read(tmp_path, monkeypatch, override):
    with pytest.raises(ConfigError, match="--set"):
        load(tmp_path, SOUND, override)
    monkeypatch.setenv("HBPIPE__EVENTS__PATH", "{")
    with pytest.raises(ConfigError, match="variable HBPIPE__EVENTS__PATH is not readable as YAML"):
        load(tmp_path)


def test_secrets_are_masked_wherever_settings_are_shown(tmp_path, monkeypatch):
    options = {
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "aws_access_key_id": "env:KEY_ID",
        "azure_storage_sas_token": "file:/run/secrets/sas",
        "aws_region": "eu-west-1",
        "aws_endpoint_url": "https://me:hunter2@store",
        "aws_allow_http": True,
        "something_new": "hunter2",
    }
    content = yaml.safe_load(SOUND)
    content["lake"]["storage_options"] = options
    monkeypatch.setenv("HBPIPE__EVENTS__STORAGE_OPTIONS__AWS_SECRET_ACCESS_KEY", "0123")
    settings = load(tmp_path, yaml.safe_dump(content))
    shown = {key: value for key, value, _ in resolved_view(settings)}
    under = "lake.storage_options."
    assert {key.removeprefix(under): shown[key] for key in shown if key.startswith(under)} == {
        **dict.fromkeys(options, "****"),
        "aws_access_key_id": "env:KEY_ID",
        "azure_storage_sas_token": "file:/run/secrets/sas",
        "aws_region": "eu-west-1",
        "aws_allow_http": "true",
    }
    assert settings.events.storage_options == {"aws_secret_access_key": "0123"}
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(shown)
    content["lake"]["storage_options"]["broken"] = ["hunter2"]
    (fault,) = faults(tmp_path, yaml.safe_dump(content))
    assert fault.startswith("lake.storage_options.broken: ")
    assert "hunter2" not in fault


def test_secrets_of_observers_are_masked_and_decide_nothing(tmp_path):
    secrets = {
        "observe.openlineage.api_key": "hunter2",
        "notify.webhook": "https://hooks.example/hunter2",
        "notify.smtp.user": "env:MAIL_USER",
        "notify.smtp.password": "hunter2",
    }
    settings = load(tmp_path, SOUND, *(f"{key}={value}" for key, value in secrets.items()))
    shown = {key: value for key, value, _ in resolved_view(settings)}
    assert {key: shown[key] for key in secrets} == {
        **dict.fromkeys(secrets, "****"),
        "notify.smtp.user": "env:MAIL_USER",
    }
    assert "hunter2" not in repr(settings)
    assert shown["observe.prometheus.push"] is None
    assert settings.digest() == load(tmp_path).digest()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["notify.smtp.host=mail"], "notify.smtp: a host needs sender and to"),
        (["notify.smtp.user=env:U"], "notify.smtp: user and password go together"),
        (
            ["notify.smtp.user=env:U", "notify.smtp.password=env:P", "notify.smtp.starttls=false"],
            "notify.smtp: a password is sent over an encrypted connection only: set starttls",
        ),
        (["notify.on=[all]"], "notify.on.0: "),
        (["observe.prometheus.textfile=gauges.txt"], "observe.prometheus.textfile: "),
        (["observe.prometheus.push=file:///etc"], "expected an address such as"),
        (
            ["observe.openlineage.url=https://me:hunter2@host"],
            "url: expected an address",
        ),
        (["observe.prometheus.pusj=x"], "unknown key; did you mean 'push'"),
    ],
)
def test_faults_of_observers(tmp_path, overrides, message):
    (line,) = faults(tmp_path, SOUND, *overrides)
    assert message in line
    assert "hunter2" not in line


def test_secrets_are_read_at_the_moment_of_use(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_ID", "abc")
    secret = tmp_path / "secret"
    secret.write_text("x:y\n")
    options = {"a": "env:KEY_ID", "b": f"file:{secret}", "c": "http://plain"}
    assert resolve_secrets(options) == {"a": "abc", "b": "x:y", "c": "http://plain"}
    secret.write_bytes(b"\xff\xfe")
    for reference in (
        "env:KEY_ID_2",
        f"file:{tmp_path / 'none'}",
        f"file:{tmp_path}",
        options["b"],
    ):
        with pytest.raises(ConfigError, match="the option refers to"):
            resolve_secrets({"the option": reference})


def test_the_resolved_view_lists_every_value_with_its_origin(tmp_path):
    view = {key: (value, origin) for key, value, origin in resolved_view(load(tmp_path))}
    assert view["events.levels"] == (["chain_id", "store_id"], str(tmp_path / "a.yaml"))
    assert view["metrics.conversion"][0]["family"] == "beta_binomial"
    assert view["metrics.conversion"][1] == str(tmp_path / "a.yaml")
    assert view["inference.window"] == ("28d", "default")
    assert view["stores.path"] == (None, "default")


@pytest.mark.parametrize("estimator", ["ml:li_lahiri", "ml:chung", "moments:kleinman"])
def test_an_estimator_may_have_a_variant(tmp_path, estimator):
    settings = load(tmp_path, SOUND, f"inference.estimator={estimator}")
    assert settings.inference.estimator == estimator


def test_the_table_of_all_keys_is_drawn_from_the_schema():
    """To renew it: `hbpipe config --keys`, between the two comments of configs/README.md."""
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("<!-- keys -->\n")
    table, found, _ = rest.partition("\n<!-- end of keys -->")
    assert found
    assert table == key_table(json_schema())


def test_every_default_of_the_schema_can_be_typed(tmp_path):
    schema = json_schema()

    def defaults(part: dict[str, Any]) -> dict[str, Any]:
        """The keys of a section, and of the sections in it."""
        found = {}
        for name, one in part["properties"].items():
            if "$ref" in one:
                found[name] = defaults(schema["$defs"][one["$ref"].rpartition("/")[2]])
            elif "default" in one:
                found[name] = one["default"]
        return found

    content = defaults(schema)
    for key, given in yaml.safe_load(SOUND).items():
        content[key] = content.get(key, {}) | given if isinstance(given, dict) else given
    typed = load(tmp_path, yaml.safe_dump(content))
    assert typed.model_dump() == load(tmp_path).model_dump()
    assert typed.inference.window == 28


def test_every_family_is_in_the_table_of_families():
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    for family in FAMILIES.values():
        if not family.is_measured:
            continue  # its days are laid out by the window; `dynamics` names it
        roles = ", ".join(f"`{role.name}`" for role in family.roles)
        named = ", ".join(f"`{name}`" for name in family.hyperparameters)
        assert f"| `{family.name}` | {roles} | {named} |\n" in text


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_schema_accepts_the_shipped_configurations(path):
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json_schema())
    load_settings(path)


@pytest.mark.parametrize(
    "change",
    [
        {"evnts": {}},
        {"inference": {"window": "4 weeks"}},
        {"inference": {"window": 28}},
        {"events": {"path": "e", "levels": [1]}},
        {"metrics": {"m": {"value": "x"}}},
        {"cluster": {"workers": 0}},
    ],
)
def test_the_schema_refuses_what_the_settings_refuse(change):
    content = yaml.safe_load(SOUND) | {"extends": "base.yaml"}
    jsonschema.validate(content, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | change, json_schema())


def test_only_what_decides_results_changes_the_digest(tmp_path):
    before = load(tmp_path).digest()
    for override in ("cluster.workers=2", "events.horizon=9d", "audits.max_rejected_share=0.5"):
        assert load(tmp_path, SOUND, override).digest() == before
    for override in (
        "inference.window=7d",
        "inference.pool_by=[]",
        "events.unit_ids=unique",
        "stores.keep_silent=90d",
        "metrics.conversion.target=0.1",
    ):
        assert load(tmp_path, SOUND, override).digest() != before
    assert digest({"a": 1, "b": date(2026, 1, 1)}) == digest({"b": date(2026, 1, 1), "a": 1})


def test_the_days_of_a_window():
    last = date(2026, 3, 2)
    assert window_days(last, 3, date(2020, 1, 1)) == [date(2026, 2, 28), date(2026, 3, 1), last]
    assert window_days(last, None, date(2026, 3, 1)) == [date(2026, 3, 1), last]


@pytest.mark.parametrize(
    ("typed", "minutes", "shown"),
    [
        ("6h", 360, "6h"),
        ("90m", 90, "90m"),
        ("120 m", 120, "2h"),
        ("2d", 2880, "48h"),
        ("0m", 0, "0h"),
    ],
)
def test_a_duration_is_shown_as_it_can_be_typed(tmp_path, typed, minutes, shown):
    settings = load(tmp_path, SOUND, f"events.complete_after={typed}")
    assert settings.events.complete_after == timedelta(minutes=minutes)
    assert settings.model_dump(mode="json")["events"]["complete_after"] == shown
