#!/usr/bin/env bash
# llm 0.36: of the first prompts in a new user directory, made at the same time, some fail.
#
# Each process creates the log before it asks the model, table by table and without a lock. Whoever
# finds the tables of another one half done ends with a traceback. llm-tiered runs too late to help,
# so its README says how to create the log first. Seen, with a model that just echoes:
#
#     of 12 processes, 7 failed: IntegrityError, OperationalError, TypeError
#     after the log was created, of 12 processes, 0 failed
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'llm==0.36' 'llm-echo==0.5'

prompts() { # the number of new user directories, and whether their logs are created first
  failed=0
  for round in $(seq "$1"); do
    export LLM_USER_PATH="$folder/user-$2-$round"
    mkdir "$LLM_USER_PATH"
    [ "$2" = before ] || "$folder/bin/llm" fragments >/dev/null
    pids=()
    for each in 1 2 3; do
      "$folder/bin/llm" -m echo hello </dev/null >/dev/null 2>>"$folder/errors-$2" &
      pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
  done
}

prompts 4 before
kinds=$(grep -o '^[A-Za-z.0-9]*Error' "$folder/errors-before" | sed 's/.*\.//' | sort -u | paste -sd, | sed 's/,/, /g')
echo "of 12 processes, $failed failed: $kinds"
[ "$failed" -gt 0 ]
prompts 4 after
echo "after the log was created, of 12 processes, $failed failed"
[ "$failed" -eq 0 ]
