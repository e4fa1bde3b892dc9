"""The SQL queries behind the charts, for users who want to explore further in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..costs.prices import IS_LOCAL_SQL, VERSION_PATHS
from ..costs.requests import DETAILS
from ..log.database import TABLES, select_from
from ..log.record import json_path

if TYPE_CHECKING:
    import sqlite3

PREFIX = "tiered_"

_VERSIONS = ", ".join(f"json_extract(sound_json, '{path}')" for path in VERSION_PATHS)

# `sound_json` is null in a damaged row: SQLite may read the JSON of a row before it drops the row.
_REQUESTS = f"""
with logged as not materialized (
  {{logged}}
),
requests as (
  select id, datetime_utc, date(datetime_utc, 'localtime') as day,
    substr(datetime_utc, 1, 10) as utc_day, resolved_model as model,
    input_tokens, output_tokens, duration_ms,
    {DETAILS.strip()} as details,
    case when input_tokens = 0 and output_tokens = 0
      then json_extract(sound_json, '{json_path("cached_from")}') end as repeats,
    json_extract(sound_json, '{json_path("tier")}') as tier,
    json_extract(sound_json, '{json_path("task")}') as task,
    json_extract(sound_json, '{json_path("attempts[0]", "reason")}') as fallback,
    json_extract(sound_json, '{json_path("cached_from")}') is not null as cached,
    coalesce({_VERSIONS}) as version,
    coalesce(
      json_extract(sound_json, '{json_path("place")}'),
      case when {IS_LOCAL_SQL} then 'here' else 'cloud' end
    ) as place,
    json_extract(sound_json, '{json_path("price")}') as price
  from (
    select *, case when json_valid(response_json) then response_json end as sound_json from logged
  )
  where model = 'tiered' and date(datetime_utc) is not null
    and (response_json is null or sound_json is not null)
    and (:since = '' or datetime_utc >= :since)
    and (:until = '' or datetime_utc < :until)
)
"""  # noqa: S608

_ANSWERED = """
  sum(cached = 0 and place = 'here') as answered_here,
  sum(cached = 0 and place = 'own') as answered_on_own_machines,
  sum(cached = 0 and place = 'cloud') as answered_in_the_cloud,
  sum(cached) as answered_by_the_cache"""

# An answer from the cache has no tokens of its own: those of the earlier answer are compared.
_MONEY = """,
counted as (
  select day, utc_day, model, version, cached, details, place, price, duration_ms,
    case when repeats is null then input_tokens
      else (select input_tokens from logged where id = repeats) end as input_tokens,
    case when repeats is null then output_tokens
      else (select output_tokens from logged where id = repeats) end as output_tokens,
    case when details is not null or repeats is not null then id end as by_itself
  from requests
),
priced as (
  select day, count(*) as requests,
    case
      when cached then 0.0
      when price is not null
        then tiered_own_cost(price, sum(input_tokens), sum(output_tokens), sum(duration_ms))
      when place <> 'cloud' then 0.0
      else tiered_cost(
        model, version, utc_day, count(*), sum(input_tokens), sum(output_tokens), max(details)
      )
    end as spent,
    tiered_cloud_cost(
      :cloud_model, model, version, utc_day,
      count(*), sum(input_tokens), sum(output_tokens), max(details)
    ) as in_the_cloud
  from counted
  group by day, utc_day, model, version, cached, place, price,
    input_tokens is null or output_tokens is null, duration_ms is null, by_itself
)
select day, sum(requests) as requests, sum(spent) as spent, sum(in_the_cloud) as in_the_cloud,
  sum(in_the_cloud - spent) as saved,
  sum(case when in_the_cloud - spent is null then requests else 0 end) as price_unknown
from priced group by day order by day
"""

_DAYS = f"""
select day, count(*) as requests,{_ANSWERED},
  round(100.0 * sum(cached) / count(*), 1) as percent_by_the_cache
from requests group by day order by day
"""  # noqa: S608

_SHARES = f"""
select {{key}}, count(*) as requests,
  round(100.0 * count(*) / sum(count(*)) over (), 1) as percent,{_ANSWERED}
from requests group by {{key}} order by requests desc
"""  # noqa: S608

# A percentile between two values is interpolated: each is weighted by how close it is.
_LATENCY = """,
placed as (
  select tier, duration_ms,
    row_number() over (partition by tier order by duration_ms) - 1 as place,
    count(*) over (partition by tier) - 1 as last
  from requests where duration_ms is not null
)
select tier, count(*) as requests,
  sum(duration_ms * max(0, 1 - abs(place - last * 0.50))) as p50_ms,
  sum(duration_ms * max(0, 1 - abs(place - last * 0.95))) as p95_ms
from placed group by tier order by requests desc
"""

_FALLBACKS = """
select tiered_reason(fallback) as reason, count(*) as requests
from requests where fallback is not null group by 1 order by 2 desc
"""

_LATEST = """
select id, datetime_utc, tier, task, model, fallback, cached, input_tokens, output_tokens,
  duration_ms
from requests order by id desc
"""


class Query(NamedTuple):
    """A query and its title. Its parameters `since` and `until` are UTC; empty is open."""

    title: str
    sql: str


def build_queries(database: sqlite3.Connection) -> dict[str, Query]:
    """Return the queries by name, for the tables of requests that the log has."""
    sources = [select_from(database, table) for table in TABLES]
    logged = "\n  union all\n  ".join(source for source in sources if source)
    endings = {
        "money": ("tiered: saved and spent by day, without electricity", _MONEY),
        "days": ("tiered: requests by day", _DAYS),
        "tiers": ("tiered: requests by tier", _SHARES.format(key="tier")),
        "tasks": ("tiered: requests by task", _SHARES.format(key="task")),
        "latency": ("tiered: time to the complete answer by tier", _LATENCY),
        "fallbacks": ("tiered: why requests fell back", _FALLBACKS),
        "latest": ("tiered: the latest requests", _LATEST),
    }
    requests = _REQUESTS.format(logged=logged).strip()
    return {
        PREFIX + name: Query(title, requests + ending.rstrip())
        for name, (title, ending) in endings.items()
    }
