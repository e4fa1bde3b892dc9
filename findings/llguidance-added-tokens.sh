#!/usr/bin/env bash
# llguidance 1.9.1: what looks like an added token in the text that a schema forces is a dead end.
#
# A mask never allows an added token such as <think>: JSON has to be written in ordinary ones. But for
# text that a schema leaves no choice about, llguidance asks the Hugging Face tokenizer, which finds
# the added token in it, and then refuses its own answer. So no model can write an enum's "<think>".
# Here llguidance gets the tokenizer with other names for the added tokens. Seen:
#
#     forced: ['"', 'a', 'n', ' ', '<b>', '"']
#     refused: Parser Error: token "<b>" doesn't satisfy the grammar; forced bytes: got '<'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llguidance==1.9.1' 'tokenizers==0.22.2'
"$folder/bin/python" - <<'PYTHON'
import json

import llguidance
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE({text: number for number, text in enumerate(alphabet)}, []))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<end>"])
tokenizer.add_tokens(["<b>"])
tokens = llguidance.LLTokenizer(tokenizer.to_str(), eos_token=tokenizer.token_to_id("<end>"))

grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps({"const": "an <b>"}))
matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
forced = matcher.compute_ff_tokens()
added = tokenizer.token_to_id("<b>")
print("forced:", [tokenizer.decode([token], skip_special_tokens=False) for token in forced])
assert added in forced
before = forced[: forced.index(added)]
assert matcher.consume_tokens(before)
assert not matcher.consume_token(added)
print("refused:", matcher.get_error().partition("\n")[0])
PYTHON
