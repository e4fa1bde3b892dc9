"""Schemas as people use them for structured output, and how fast answers under them are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .figures import Figure, interleave_warm
from .timing import TimedAnswer, submit

if TYPE_CHECKING:
    from .parts import Bench

Schema = dict[str, Any]


def _object(**properties: Schema) -> Schema:
    """Return the schema of an object with these properties, all of them required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: Schema, most: int = 4) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _text(most: int = 40) -> Schema:
    return {"type": "string", "maxLength": most}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": [*values]}


def _whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


NUMBER: Schema = {"type": "number"}
YES_NO: Schema = {"type": "boolean"}
DATE: Schema = {"type": "string", "format": "date"}
TIME: Schema = {"type": "string", "format": "date-time"}
EMAIL: Schema = {"type": "string", "format": "email", "maxLength": 40}
CURRENCY = _one_of("EUR", "USD", "GBP", "JPY", "CHF")
ADDRESS = _object(street=_text(), postal_code=_text(10), city=_text(30), country_code=_text(2))

# What to make up, and the schema it has to fit.
SCHEMAS: dict[str, Schema] = {
    "sentiment of a review": _object(
        sentiment=_one_of("positive", "neutral", "negative"), confidence=NUMBER, reason=_text(60)
    ),
    "support ticket": _object(
        category=_one_of("billing", "technical", "account", "shipping", "other"),
        priority=_one_of("low", "normal", "high", "urgent"),
        needs_human=YES_NO,
        summary=_text(80),
        suggested_team=_one_of("first level", "engineering", "finance"),
    ),
    "contact": _object(
        first_name=_text(20), last_name=_text(20), email=EMAIL, phone=_text(20), address=ADDRESS
    ),
    "invoice": _object(
        invoice_number=_text(12),
        issue_date=DATE,
        due_date=DATE,
        currency=CURRENCY,
        items=_list(
            _object(description=_text(), quantity=_whole(1, 99), unit_price=NUMBER, vat=NUMBER)
        ),
        total_amount=NUMBER,
        is_paid=YES_NO,
    ),
    "calendar event": _object(
        title=_text(),
        starts_at=TIME,
        ends_at=TIME,
        all_day=YES_NO,
        location=_text(30),
        attendees=_list(_object(name=_text(30), response=_one_of("accepted", "declined"))),
    ),
    "recipe": _object(
        name=_text(),
        servings=_whole(1, 12),
        difficulty=_one_of("easy", "medium", "hard"),
        ingredients=_list(_object(name=_text(20), amount=NUMBER, unit=_one_of("g", "ml", "piece"))),
        steps=_list(_text(80)),
    ),
    "weather report": _object(
        city=_text(20),
        observed_at=TIME,
        temperature_celsius=NUMBER,
        humidity_percent=_whole(0, 100),
        conditions=_one_of("clear", "cloudy", "rain", "snow", "storm"),
        wind=_object(speed_kmh=NUMBER, direction=_one_of("N", "E", "S", "W")),
    ),
    "product in a shop": _object(
        sku=_text(10),
        name=_text(),
        price=_object(amount=NUMBER, currency=CURRENCY),
        in_stock=YES_NO,
        tags=_list(_one_of("new", "sale", "organic", "vegan", "gift")),
        rating=_object(average=NUMBER, count=_whole(0, 9999)),
    ),
    "job posting": _object(
        title=_text(),
        employment_type=_one_of("full-time", "part-time", "contract", "internship"),
        remote=YES_NO,
        salary=_object(minimum=_whole(0, 500000), maximum=_whole(0, 500000), currency=CURRENCY),
        required_skills=_list(_text(20)),
    ),
    "résumé": _object(
        full_name=_text(30),
        email=EMAIL,
        education=_list(_object(institution=_text(), degree=_text(20), year=_whole(1950, 2030)), 2),
        experience=_list(_object(company=_text(30), position=_text(30), current=YES_NO), 2),
    ),
    "flight booking": _object(
        booking_reference=_text(6),
        passengers=_list(_object(name=_text(30), seat=_text(4), meal=_one_of("none", "vegan")), 2),
        departure=_object(airport=_text(3), time=TIME),
        arrival=_object(airport=_text(3), time=TIME),
        cabin_class=_one_of("economy", "premium", "business", "first"),
        refundable=YES_NO,
    ),
    "named entities of a sentence": _object(
        entities=_list(
            _object(
                text=_text(20),
                label=_one_of("PERSON", "ORGANISATION", "PLACE", "DATE"),
                start=_whole(0, 500),
                end=_whole(0, 500),
            )
        )
    ),
    "moderation of a comment": _object(
        flagged=YES_NO,
        categories=_object(
            harassment=YES_NO, hate=YES_NO, self_harm=YES_NO, sexual=YES_NO, violence=YES_NO
        ),
        action=_one_of("allow", "review", "remove"),
    ),
    "quiz question": _object(
        question=_text(80),
        options=_list(_object(letter=_one_of("A", "B", "C", "D"), text=_text(30))),
        correct_letter=_one_of("A", "B", "C", "D"),
        difficulty=_whole(1, 5),
    ),
    "SQL column": _object(
        column_name=_text(20),
        data_type=_one_of("integer", "text", "boolean", "timestamp", "numeric"),
        nullable=YES_NO,
        primary_key=YES_NO,
        default_value={"type": ["string", "null"], "maxLength": 20},
    ),
    "commit": _object(
        type=_one_of("feat", "fix", "docs", "refactor", "test"),
        scope=_text(12),
        subject=_text(50),
        breaking_change=YES_NO,
        issues=_list(_whole(1, 9999), 2),
    ),
    "bug report": _object(
        title=_text(60),
        severity=_one_of("trivial", "minor", "major", "critical", "blocker"),
        environment=_object(operating_system=_text(15), version=_text(8), browser=_text(15)),
        steps_to_reproduce=_list(_text(50), 3),
        reproducible=YES_NO,
    ),
    "musical exercise": _object(
        title=_text(),
        key=_one_of("C", "G", "D", "A", "E", "F", "Bb", "Eb"),
        time_signature=_one_of("2/4", "3/4", "4/4", "6/8"),
        tempo=_whole(40, 200),
        difficulty=_whole(1, 10),
        notes=_list(_object(pitch=_text(3), duration=_one_of("whole", "half", "quarter")), 6),
    ),
    "medical appointment": _object(
        patient_id=_text(10),
        appointment_date=DATE,
        specialty=_one_of("cardiology", "dermatology", "paediatrics", "general practice"),
        insurance_status=_one_of("public", "private", "none"),
        follow_up_required=YES_NO,
        notes=_text(60),
    ),
    "property listing": _object(
        property_type=_one_of("apartment", "house", "studio"),
        address=ADDRESS,
        rooms=_whole(1, 12),
        area_square_metres=NUMBER,
        monthly_rent=_object(amount=NUMBER, currency=CURRENCY),
        pets_allowed=YES_NO,
        available_from=DATE,
    ),
    "news article": _object(
        headline=_text(80),
        section=_one_of("politics", "business", "science", "sports", "culture"),
        published_at=TIME,
        keywords=_list(_text(15)),
        is_opinion=YES_NO,
    ),
    "function call": _object(
        function_name=_one_of("get_weather", "send_message", "create_reminder", "search_web"),
        arguments=_object(query=_text(40), limit=_whole(1, 20), include_details=YES_NO),
    ),
    "shipment": _object(
        tracking_number=_text(14),
        carrier=_one_of("DHL", "UPS", "FedEx", "Post"),
        status=_one_of("label created", "in transit", "out for delivery", "delivered"),
        history=_list(_object(timestamp=TIME, location=_text(20), status=_text(20)), 3),
    ),
    "bank transaction": _object(
        transaction_id=_text(12),
        booking_date=DATE,
        amount=NUMBER,
        currency=CURRENCY,
        counterparty=_object(name=_text(30), account_number=_text(22)),
        category=_one_of("groceries", "rent", "salary", "transport", "leisure"),
    ),
    "sensor reading": _object(
        device_id=_text(8),
        measured_at=TIME,
        measurements=_object(temperature=NUMBER, humidity=NUMBER, pressure=NUMBER, battery=NUMBER),
        alarm=YES_NO,
    ),
    "summary of a meeting": _object(
        topic=_text(),
        decisions=_list(_text(60), 3),
        action_items=_list(_object(owner=_text(20), task=_text(50), due_date=DATE), 3),
        next_meeting=DATE,
    ),
    "character of a game": _object(
        name=_text(20),
        character_class=_one_of("warrior", "mage", "rogue", "healer"),
        level=_whole(1, 20),
        abilities=_object(
            strength=_whole(1, 20),
            dexterity=_whole(1, 20),
            intelligence=_whole(1, 20),
            charisma=_whole(1, 20),
        ),
        inventory=_list(_object(item=_text(20), equipped=YES_NO), 3),
    ),
    "translation": _object(
        source_language=_one_of("en", "de", "fr", "es", "it"),
        target_language=_one_of("en", "de", "fr", "es", "it"),
        translated_text=_text(80),
        formal_register=YES_NO,
    ),
    "survey answer": _object(
        respondent_age_group=_one_of("under 18", "18-34", "35-54", "55 and over"),
        satisfaction=_whole(1, 5),
        would_recommend=YES_NO,
        reasons=_list(_one_of("price", "quality", "service", "location", "other"), 3),
        comment={"type": ["string", "null"], "maxLength": 60},
    ),
    "server configuration": _object(
        host=_text(20),
        port=_whole(1, 65535),
        tls_enabled=YES_NO,
        log_level=_one_of("debug", "info", "warning", "error"),
        timeouts=_object(connect_seconds=NUMBER, read_seconds=NUMBER),
        allowed_origins=_list(_text(25), 2),
    ),
}


def schemas(bench: Bench) -> list[Figure]:
    """Measure passes per token under each schema, and decode against the same without one."""

    def answer(number: int, *, has_schema: bool) -> TimedAnswer:
        # The first round is a warm-up.
        what, schema = list(SCHEMAS.items())[number - 1]
        # The beginning of the prompt is cached: reading would take longer than these answers. One
        # without a schema only shows how long a token takes.
        most = bench.plan.short_answer
        return submit(
            bench.model,
            f"Make up the data, as JSON: {what}.",
            schema=schema if has_schema else None,
            max_tokens=most if has_schema else max(most // 2, 2),
        )

    pairs = interleave_warm(
        len(SCHEMAS),
        lambda number: answer(number, has_schema=True),
        lambda number: answer(number, has_schema=False),
    )
    guided = [one for one, _ in pairs]
    shares = [one.passes / one.output_tokens for one in guided]
    passes = sum(one.passes for one in guided) / sum(one.output_tokens for one in guided)
    longest = max(one.output_tokens for one in guided)
    note = f"{len(SCHEMAS)} schemas, {min(shares):.2f} to {max(shares):.2f}, up to {longest} tokens"
    rates = [(one.decode_rate, other.decode_rate) for one, other in pairs]
    part = bench.part("schemas")
    return [
        Figure(part.name, "schemas_passes", "passes/token", passes, part.model, note),
        part.paired("schemas", "tokens/s", rates, "no schema"),
    ]
