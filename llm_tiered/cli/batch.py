"""`llm tiered batch`: answer the prompts of a file."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import llm

from ..batch import rows
from ..batch.journal import Journal
from ..batch.limits import limit
from ..batch.output import Output, open_output
from ..batch.report import Once, Report
from ..batch.runner import Batch, Job
from ..errors import RequestError, TieredError

if TYPE_CHECKING:
    from collections.abc import Iterator
