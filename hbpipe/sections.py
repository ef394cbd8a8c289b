"""The sections of the settings: what each key may hold, and what it means."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)

from hbpipe.data.quantities import RESERVED
from hbpipe.typed import Days, DayStart, Duration, Name, Names, Options, Window


class Section(BaseModel):
    """A strict, frozen section: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Show defaults as they are typed: pydantic would show 28 where ``28d`` is meant."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        typed = cls.model_construct().model_dump(mode="json", warnings=False)
        for name, one in properties.items():
            if "default" in one:
                one["default"] = typed[name]
        return schema


class Events(Section):
    """Where the events lie and how their columns are read."""

    path: Name = Field(
        description="a Parquet file or a folder of them, flat or hive-partitioned; a local path, "
        "s3://, gs:// or abfs://"
    )
    time: str | None = Field(
        None,
        description="the column of the moment: a timestamp or ISO text; naive ones are local in "
        "timezone. Give time or day",
    )
    day: str | None = Field(None, description="the column of the business day, a date")
    timezone: str = Field("UTC", description="the IANA zone in which business days are counted")
    day_start: DayStart = Field(
        0,
        description="when the business day begins, quoted: later where tills close after midnight",
    )
    levels: Names = Field(
        min_length=1,
        description="the columns of the hierarchy, coarse to fine; the last is the unit",
    )
    unit_ids: Literal["auto", "unique", "within_parent"] = Field(
        "auto",
        description="whether the last level names a unit by itself (a unit that changes its parent "
        "has moved) or only within its parent; auto decides by the ids seen on one day",
    )
    event_id: Names = Field(
        (), description="the columns that name an event: repeated ones are counted once a day"
    )
    horizon: Days = Field(7, description="how far back each night looks for late files")
    complete_after: Duration = Field(
        timedelta(0),
        description="how long after the end of a business day its late files are awaited, such as "
        "6h: only then is the day complete",
    )
    ready: str | None = Field(
        None,
        description="the file that marks a business day as complete, below path, such as "
        "_ready/{day}; null: days need no marker",
    )
    earliest: date = Field(date(2000, 1, 1), description="events of earlier days are rejected")
    latest: date = Field(date(2099, 12, 31), description="events of later days are rejected")
    storage_options: Options = Field(
        {},
        repr=False,
        description="options of the object store, by name; secrets as env:NAME or file:PATH",
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}, for instance Europe/Paris") from error
        return value

    @field_validator("levels")
    @classmethod
    def _names_are_free(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({name.lower() for name in value}) < len(value):
            raise ValueError(f"levels must differ, not only in case, found {list(value)}")
        taken = [name for name in value if name.lower() in RESERVED]
        if taken:
            raise ValueError(
                f"{taken[0]!r} is a column of the tables that are written; rename it in the events"
            )
        return value

    @field_validator("ready")
    @classmethod
    def _names_the_day(cls, value: str | None) -> str | None:
        if value is not None and "{day}" not in value:
            raise ValueError(f"expected a path with {{day}} in it, found {value!r}")
        return value

    @model_validator(mode="after")
    def _one_time(self) -> Events:
        faults = []
        if (self.time is None) == (self.day is None):
            faults.append("give either time (timestamp or ISO text) or day (a date column)")
        if self.earliest > self.latest:
            faults.append(f"earliest {self.earliest} is after latest {self.latest}")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def unit(self) -> str:
        """The finest level."""
        return self.levels[-1]


class Stores(Section):
    """The universe of stores beyond those with events in the window."""

    path: str | None = Field(
        None,
        description="a Parquet table with one row per store, the columns of the levels, and those "
        "of covariates",
    )
    keep_silent: Days | None = Field(
        None,
        description="how long stores stay listed after their last event; null: as long as the "
        "window",
    )


class Inference(Section):
    """How hyperparameters and posteriors are computed."""

    pool_by: Names | None = Field(
        None,
        description="the levels whose stores share one prior; [] for one prior over all, null for "
        "every level above the unit, or above those of nest_by",
    )
    nest_by: Names = Field(
        (),
        description="levels below those of pool_by, coarse to fine, whose groups have priors of "
        "their own, which vary around their parent's: a group with few stores borrows from the "
        "others",
    )
    window: Window = Field(
        28, description="how many days a release rests on, its as-of day the last; or all"
    )
    estimator: str = Field(
        "ml",
        pattern=r"^((ml|reml)(:(li_lahiri|chung))?|map|moments(:[a-z_]+)?)$",
        description="how hyperparameters are estimated: ml (marginal likelihood), reml, map, "
        "moments or moments:VARIANT; ml:li_lahiri, ml:chung and the same with reml keep the "
        "spread off zero",
    )
    uncertainty: Literal["auto", "plug_in", "first_order", "integrated"] = Field(
        "auto",
        description="how posteriors carry the uncertainty of the hyperparameters; plug_in carries "
        "none",
    )
    quantiles: tuple[float, ...] = Field(
        (0.05, 0.5, 0.95), description="the posterior quantiles, each a column such as q0.05"
    )

    @field_validator("quantiles")
    @classmethod
    def _levels(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < level < 1 for level in value) or len(set(value)) < len(value):
            raise ValueError(f"quantiles are different numbers between 0 and 1, found {value}")
        if len({f"{level:g}" for level in value}) < len(value):
            raise ValueError(f"quantiles name columns by six digits, which these share: {value}")
        return tuple(sorted(value))


class LakeSettings(Section):
    """Where the tables lie."""

    path: Name = Field(
        description="the folder of the tables: a local path or an object store; one pipeline, one "
        "lake"
    )
    storage_options: Options = Field(
        {},
        repr=False,
        description="options of the object store, by name; secrets as env:NAME or file:PATH",
    )
    lease: Literal["auto", "flock", "timed"] = Field(
        "auto",
        description="how runs keep each other out: flock, a lock of a local disk that ends with "
        "its process; timed, renewed in the lake while the run lives, for disks that machines "
        "share; auto: flock on a local path, timed elsewhere",
    )
    lease_s: float = Field(
        120.0,
        gt=0,
        description="how long a timed lease lasts without renewal, in seconds: so long after a "
        "run has died the next one begins",
    )

    @model_validator(mode="after")
    def _lockable(self) -> LakeSettings:
        if self.lease == "flock" and "://" in self.path:
            raise ValueError("lease: flock is for local disks; use auto or timed")
        return self

    @property
    def timed(self) -> bool:
        """Tell whether the lease is timed."""
        return self.lease == "timed" or (self.lease == "auto" and "://" in self.path)


class Cluster(Section):
    """Who does the work; never what comes out."""

    kind: Literal["local", "serial", "address"] = Field(
        "local",
        description="local: a Dask cluster on this machine; serial: this process alone; address: a "
        "cluster that runs already",
    )
    workers: Annotated[int, Field(ge=1, strict=True)] | Literal["auto"] = Field(
        "auto", description="how many chunks are worked on at once; auto: one for each CPU"
    )
    processes: bool | Literal["auto"] = Field(
        "auto", description="whether workers of a local cluster are processes, or else threads"
    )
    memory_limit_gib: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto", description="the memory of each worker process, in GiB"
    )
    address: str | None = Field(
        None, description="the scheduler of kind address, such as tls://scheduler:8786"
    )
    no_workers_timeout_s: float = Field(
        300.0, gt=0, description="how long to wait for a cluster without workers, in seconds"
    )
    allowed_failures: int = Field(
        3, ge=0, description="how often a task may lose its worker before the run fails"
    )

    @model_validator(mode="after")
    def _address(self) -> Cluster:
        if (self.kind == "address") != (self.address is not None):
            raise ValueError("address goes with kind: address, and kind: address needs one")
        return self
