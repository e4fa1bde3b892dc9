"""The chat templates of the tiny models: those of the families, in our own words."""

PHI3_TEMPLATE = r"""
{%- for message in messages if message.role in ["system", "user", "assistant"] %}
    {%- if message.content or message.role != "system" %}
        {{- "<|" ~ message.role ~ "|>\n" ~ message.content ~ "<|end|>\n" }}
    {%- endif %}
{%- endfor %}
{{- "<|assistant|>\n" if add_generation_prompt else eos_token }}"""

_QWEN_MACROS = r"""
{%- macro turn(role, text) %}
    {{- "<|im_start|>" ~ role ~ "\n" ~ text ~ "<|im_end|>\n" }}
{%- endmacro %}
{%- macro tool_section() %}
    {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n" }}
    {{- "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n" }}
    {%- for tool in tools %}
        {{- tool | tojson ~ "\n" }}
    {%- endfor %}
    {{- "</tools>\n\nFor each function call, return a json object with function name and " }}
    {{- "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n" }}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}' ~ "\n</tool_call>" }}
{%- endmacro %}
{%- macro tool_calls(message, content) %}
    {%- for call in message.tool_calls or [] %}
        {%- set tool_call = call.function or call %}
        {{- "\n" if content or not loop.first }}
        {{- '<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
        {{- arguments(tool_call.arguments) ~ "}\n</tool_call>" }}
    {%- endfor %}
{%- endmacro %}
{%- macro tool_result(message, before, after) %}
    {{- "<|im_start|>user" if before.role != "tool" }}
    {{- "\n<tool_response>\n" ~ message.content ~ "\n</tool_response>" }}
    {{- "<|im_end|>\n" if after.role != "tool" }}
{%- endmacro %}"""

QWEN2_TEMPLATE = (
    r"""
{%- macro arguments(value) %}
    {{- value | tojson }}
{%- endmacro %}"""
    + _QWEN_MACROS
    + r"""
{%- set system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." %}
{%- if messages[0].role == "system" %}
    {%- set system = messages[0].content %}
{%- endif %}
{{- turn("system", system ~ ("\n\n" ~ tool_section() if tools else "")) }}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {{- tool_result(message, loop.previtem or {}, loop.nextitem or {}) }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content or "" %}
        {{- turn("assistant", content ~ tool_calls(message, content)) }}
    {%- elif not (loop.first and message.role == "system") %}
        {{- turn(message.role, message.content) }}
    {%- endif %}
{%- endfor %}
{{- "<|im_start|>assistant\n" if add_generation_prompt }}"""
)

QWEN3_TEMPLATE = (
    r"""
{%- macro arguments(value) %}
    {{- value if value is string else value | tojson }}
{%- endmacro %}"""
    + _QWEN_MACROS
    + r"""
{%- set system = [messages[0].content] if messages[0].role == "system" else [] %}
{%- set system = system + ([tool_section()] if tools else []) %}
{{- turn("system", system | join("\n\n")) if system }}
{#- Thinking stays only in the turns after the last question, that is, between tool calls. #}
{%- set last = namespace(question=messages | length - 1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {%- set result = message.content.startswith("<tool_response>") %}
        {%- if not (result and message.content.endswith("</tool_response>")) %}
            {%- set last.question = loop.index0 %}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {{- tool_result(message, loop.previtem or {}, loop.nextitem or {}) }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content or "" %}
        {%- set told = message.reasoning_content is string %}
        {%- set thinking = message.reasoning_content if told else "" %}
        {%- if not told and "</think>" in content %}
            {%- set thinking = content.split("</think>")[0].split("<think>")[-1].strip("\n") %}
            {%- set content = content.split("</think>")[-1].lstrip("\n") %}
        {%- endif %}
        {%- set calls = tool_calls(message, content) %}
        {%- if loop.index0 > last.question and (loop.last or thinking) %}
            {%- set thinking = "<think>\n" ~ thinking.strip("\n") ~ "\n</think>\n\n" %}
            {%- set content = thinking ~ content.lstrip("\n") %}
        {%- endif %}
        {{- turn("assistant", content ~ calls) }}
    {%- elif not (loop.first and message.role == "system") %}
        {{- turn(message.role, message.content) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\n" }}
    {{- "<think>\n\n</think>\n\n" if enable_thinking is defined and not enable_thinking }}
{%- endif %}"""
)

CODER_TEMPLATE = r"""
{%- if tools %}
    {{- "<|im_start|>system\n# Tools\n\n<tools>\n" }}
    {%- for tool in tools %}
        {{- tool | tojson ~ "\n" }}
    {%- endfor %}
    {{- "</tools>\n\nCall a function like this:\n\n<tool_call>\n<function=name>\n" }}
    {{- "<parameter=name>\nvalue\n</parameter>\n</function>\n</tool_call><|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {{- "<|im_start|>" ~ ("user" if message.role == "tool" else message.role) ~ "\n" }}
    {{- "<tool_response>\n" if message.role == "tool" }}
    {{- message.content }}
    {%- for call in message.tool_calls or [] %}
        {%- set tool_call = call.function %}
        {{- "<tool_call>\n<function=" ~ tool_call.name ~ ">\n" }}
        {%- for name, value in tool_call.arguments | items %}
            {{- "<parameter=" ~ name ~ ">\n" ~ (value if value is string else value | tojson) }}
            {{- "\n</parameter>\n" }}
        {%- endfor %}
        {{- "</function>\n</tool_call>" }}
    {%- endfor %}
    {{- "\n</tool_response>" if message.role == "tool" }}
    {{- "<|im_end|>\n" }}
{%- endfor %}
{{- "<|im_start|>assistant\n" if add_generation_prompt }}"""

GEMMA3_TEMPLATE = r"""
{{- "<bos>" }}
{%- set system = messages[0].content ~ "\n\n" if messages[0].role == "system" else "" %}
{%- for message in messages if message.role != "system" %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("the roles must alternate") }}
    {%- endif %}
    {{- "<start_of_turn>" ~ ("model" if message.role == "assistant" else message.role) ~ "\n" }}
    {{- (system if loop.first else "") ~ message.content | trim ~ "<end_of_turn>\n" }}
{%- endfor %}
{{- "<start_of_turn>model\n" if add_generation_prompt }}"""
