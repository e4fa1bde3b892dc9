"""The tiers of the config: a range of complexity, the model that serves it, and where that runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    field_serializer,
    model_serializer,
    model_validator,
)

from ..mlx.catalog import PREFIX
from .addresses import ADDRESSES, is_here, parse_addresses, runs_in_ollamas_cloud
from .price import ConfigPrice
from .terms import SERVER_PREFIX, Place
from .user_models import STRICT
from .values import DollarsAnHour, PricePerMillion, Range, Span, Words

Addresses = Annotated[tuple[str, ...] | None, BeforeValidator(parse_addresses), ADDRESSES]

# Keys that need a server.
_OF_SERVERS = ("key", "concurrency", "images")


class Tier(BaseModel):
    """A named range of complexity with the model that serves it.

    `model` is its id or alias in llm, or, with a `server`, its name there. Once validated, `place`
    is where the model runs, whether or not the config says so.
    """

    model_config = STRICT

    name: Annotated[str, Words("lower-case letters, digits, - and _")] = Field(
        pattern=r"^[a-z][a-z0-9_-]*$", description="Name of the tier, as in `-o tier`"
    )
    complexity: Range = Field(description="Complexity of the prompts that the tier answers")
    model: str = Field(
        description="Id or alias of the model (`llm models list`), or its name on the server"
    )
    server: Addresses = Field(
        default=None, description="Address of the server that has the model, or several addresses"
    )
    place: Place = Field(
        default=None,  # type: ignore[arg-type]  # _placed fills it in
        description="Where the model runs: on this machine, another one of yours, or elsewhere",
    )
    key: Annotated[str | None, Words("a name in `llm keys`")] = Field(
        default=None, min_length=1, description="Name of the server's key in `llm keys`"
    )
    price: PricePerMillion = Field(
        default=None,
        description="What the model costs; empty: nothing on your machines, else its known price",
    )
    price_per_hour: DollarsAnHour = Field(
        default=None, description="What an hour of answering costs, instead of `price`"
    )
    concurrency: Annotated[int | None, Words("a whole number from 1")] = Field(
        default=None,
        ge=1,
        description="Requests to all servers together at a time, from one process",
    )
    images: bool | None = Field(
        default=None, description="Whether the server's model reads images; empty: no"
    )
    options: Annotated[dict[str, Any], Words("names and values")] = Field(
        default={},
        description="Options of the model; the options of a request override them",
    )
    escalate: bool = Field(
        default=False,
        description="Whether local answers are checked, and weak ones passed to a higher tier",
    )

    @property
    def model_id(self) -> str:
        """The id under which the model is asked, logged and priced."""
        return f"{SERVER_PREFIX}{self.name}/{self.model}" if self.server else self.model

    @property
    def answer_price(self) -> ConfigPrice | None:
        """What an answer costs by the config: for its tokens or its time, or None."""
        if self.price_per_hour is not None:
            return ConfigPrice(hour=self.price_per_hour)
        return self.price

    def covers(self, complexity: int) -> bool:
        """Whether requests of this complexity belong to the tier."""
        return self.complexity.low <= complexity <= self.complexity.high

    @model_validator(mode="before")
    @classmethod
    def _empty_place(cls, values: Any) -> Any:
        if isinstance(values, dict) and "place" in values and values["place"] is None:
            return {name: value for name, value in values.items() if name != "place"}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Tier:
        if self.server and self.model == "tiered":
            raise ValueError("a tier can't be tiered itself, not even that of a server")
        for name in () if self.server else _OF_SERVERS:
            if getattr(self, name):
                raise ValueError(f"found {name}, which needs server")
        if self.price is not None and self.price_per_hour is not None:
            raise ValueError("found price and price_per_hour, expected only one of them")
        return self

    @model_validator(mode="after")
    def _placed(self) -> Tier:
        place, why = self._usual_place()
        if "place" not in self.model_fields_set:
            # An assignment would mark it as a key that the config has.
            object.__setattr__(self, "place", place)
        elif why and self.place != place:
            raise ValueError(f"found place: {self.place}, but {why}")
        return self

    def _usual_place(self) -> tuple[Place, str | None]:
        """Where the model runs by default, and why the config can't say otherwise, if it can't."""
        if self.model.startswith(PREFIX) and not self.server:
            return "here", f"{self.model} runs on this machine"
        if runs_in_ollamas_cloud(self.model):
            return "cloud", f"Ollama runs {self.model} in its own cloud, as the name says"
        elsewhere = [address for address in self.server or () if not is_here(address)]
        if elsewhere and self.place == "here":
            return "cloud", f"{elsewhere[0]} is not known to be this machine (such as 127.0.0.1)"
        return ("here" if self.server and not elsewhere else "cloud"), None

    @field_serializer("complexity", when_used="json")
    def _range_as_written(self, complexity: Span) -> str:
        return str(complexity)

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: Any) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if "place" not in self.model_fields_set:
            del values["place"]
        return {name: value for name, value in values.items() if value is not None}


def default_tiers() -> tuple[Tier, ...]:
    """Return the tiers out of the box."""
    return (
        Tier(
            name="small",
            complexity=Span(1, 4),
            model="mlx/Phi-3.5-mini-instruct-4bit",
            options={"max_tokens": 2048},
        ),
        Tier(
            name="medium",
            complexity=Span(5, 7),
            model="mlx/Qwen2.5-7B-Instruct-4bit",
            options={"max_tokens": 4096},
        ),
        Tier(
            name="cloud",
            complexity=Span(8, 10),
            model="gemini/gemini-flash-latest",
            options={"timeout": 120},
        ),
    )
