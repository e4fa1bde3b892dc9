CREATE TABLE "attachments" (
   "id" TEXT PRIMARY KEY,
   "type" TEXT,
   "path" TEXT,
   "url" TEXT,
   "content" BLOB
);
CREATE TABLE "schemas" (
   "id" TEXT PRIMARY KEY,
   "content" TEXT
);
CREATE TABLE "responses" (
   "id" TEXT PRIMARY KEY,
   "model" TEXT,
   "prompt" TEXT,
   "system" TEXT,
   "prompt_json" TEXT,
   "options_json" TEXT,
   "response" TEXT,
   "response_json" TEXT,
   "conversation_id" TEXT REFERENCES "conversations"("id"),
   "duration_ms" INTEGER,
   "datetime_utc" TEXT,
   "input_tokens" INTEGER,
   "output_tokens" INTEGER,
   "token_details" TEXT,
   "schema_id" TEXT REFERENCES "schemas"("id")
, "resolved_model" TEXT, "reasoning" TEXT);
insert into responses values ('01jd4q8z5k0000000000000000', 'tiered', 'What is a clef?', NULL, NULL, '{"complexity": 2}', 'A sign.', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 3}], "ttft_ms": 3}, "response": null}', NULL, 250, '2025-11-20T12:00:00.000000', 40, 10, NULL, NULL, 'mlx/toy-small', NULL);
CREATE TABLE "fragments" (
   "id" INTEGER PRIMARY KEY,
   "hash" TEXT,
   "content" TEXT,
   "datetime_utc" TEXT,
   "source" TEXT
);
insert into fragments values (1, '8c94cc2a91228ac0040ded2af1ed8bffbbe1753edc47b4ec49a0d45cd27d085d', 'A chord is made of notes.', '2026-11-28 15:37:06', NULL);
CREATE TABLE "tools" (
   "id" INTEGER PRIMARY KEY,
   "hash" TEXT,
   "name" TEXT,
   "description" TEXT,
   "input_schema" TEXT
, "plugin" TEXT);
CREATE TABLE "messages" (
   "hash" TEXT PRIMARY KEY,
   "parent_hash" TEXT REFERENCES "messages"("hash"),
   "role" TEXT,
   "provider_metadata" TEXT
);
insert into messages values ('b2:074dea0bd0259e0d5dca16426a45e4f5', NULL, 'system', NULL);
insert into messages values ('b2:8de37e7d56fc97c6faa5a3c12ab1ce57', 'b2:074dea0bd0259e0d5dca16426a45e4f5', 'user', NULL);
insert into messages values ('b2:fe1ecac9f750dd0f7c9dafd858edbec8', 'b2:8de37e7d56fc97c6faa5a3c12ab1ce57', 'assistant', NULL);
insert into messages values ('b2:7fa9b3aa6922623605d752aa65a13700', NULL, 'user', NULL);
insert into messages values ('b2:a482c010982b5e38319cecabaf2834c3', 'b2:7fa9b3aa6922623605d752aa65a13700', 'assistant', NULL);
insert into messages values ('b2:855246ea6dc0e1f8b5bdaa4135dbb2c1', NULL, 'user', NULL);
insert into messages values ('b2:3992f13c6d6bf5fe54706003ce45aef0', 'b2:855246ea6dc0e1f8b5bdaa4135dbb2c1', 'assistant', NULL);
insert into messages values ('b2:1c90ca1554bf8d8efcfe60ddf4da7a99', NULL, 'user', NULL);
insert into messages values ('b2:4afbebb1b36d9363f236237947ddf140', 'b2:1c90ca1554bf8d8efcfe60ddf4da7a99', 'assistant', NULL);
insert into messages values ('b2:d0de91002d152e2aa886284dab76cefb', NULL, 'user', NULL);
insert into messages values ('b2:248de1e922aec35f2d8d1dbd0f38280c', 'b2:d0de91002d152e2aa886284dab76cefb', 'assistant', NULL);
insert into messages values ('b2:931dc234b81f6ed82f364119b9707265', NULL, 'user', NULL);
insert into messages values ('b2:d6009752121e3e799501ebe00ee35149', 'b2:931dc234b81f6ed82f364119b9707265', 'assistant', NULL);
insert into messages values ('b2:c6f5ce7adf37e396dde101898de94597', NULL, 'user', NULL);
insert into messages values ('b2:f1f787710c9b42ee88b2daee5c077e1c', 'b2:c6f5ce7adf37e396dde101898de94597', 'assistant', NULL);
insert into messages values ('b2:26b17e74694f3bfeeac6f2469eef6d6b', 'b2:f1f787710c9b42ee88b2daee5c077e1c', 'user', NULL);
insert into messages values ('b2:083ebde5dea938e8df3597e18886ce86', 'b2:26b17e74694f3bfeeac6f2469eef6d6b', 'assistant', NULL);
insert into messages values ('b2:e8bee34a2a650a0d3c9c221c8226adc6', NULL, 'user', NULL);
insert into messages values ('b2:279e649bde805f5b02a0a5162048f7f0', 'b2:e8bee34a2a650a0d3c9c221c8226adc6', 'assistant', NULL);
CREATE TABLE "parts" (
   "id" INTEGER PRIMARY KEY,
   "message_hash" TEXT REFERENCES "messages"("hash"),
   "position" INTEGER,
   "type" TEXT,
   "tool_name" TEXT,
   "text" TEXT,
   "payload" TEXT
);
insert into parts values (1, 'b2:074dea0bd0259e0d5dca16426a45e4f5', 0, 'text', NULL, 'Be brief.', NULL);
insert into parts values (2, 'b2:8de37e7d56fc97c6faa5a3c12ab1ce57', 0, 'text', NULL, NULL, '{"text_ref": [{"fragment": 1}, {"literal": "\nWhat is a triad?"}]}');
insert into parts values (3, 'b2:fe1ecac9f750dd0f7c9dafd858edbec8', 0, 'text', NULL, 'small answer', NULL);
insert into parts values (4, 'b2:7fa9b3aa6922623605d752aa65a13700', 0, 'text', NULL, 'Name an interval.', NULL);
insert into parts values (5, 'b2:a482c010982b5e38319cecabaf2834c3', 0, 'text', NULL, 'small answer', NULL);
insert into parts values (6, 'b2:855246ea6dc0e1f8b5bdaa4135dbb2c1', 0, 'text', NULL, 'Spell the C major triad.', NULL);
insert into parts values (7, 'b2:3992f13c6d6bf5fe54706003ce45aef0', 0, 'text', NULL, 'C, E and G.', NULL);
insert into parts values (8, 'b2:1c90ca1554bf8d8efcfe60ddf4da7a99', 0, 'text', NULL, 'What is a scale?', NULL);
insert into parts values (9, 'b2:4afbebb1b36d9363f236237947ddf140', 0, 'text', NULL, 'medium answer', NULL);
insert into parts values (10, 'b2:d0de91002d152e2aa886284dab76cefb', 0, 'text', NULL, 'Name chord 1.', NULL);
insert into parts values (11, 'b2:248de1e922aec35f2d8d1dbd0f38280c', 0, 'text', NULL, 'small answer', NULL);
insert into parts values (12, 'b2:931dc234b81f6ed82f364119b9707265', 0, 'text', NULL, 'Name chord 7.', NULL);
insert into parts values (13, 'b2:d6009752121e3e799501ebe00ee35149', 0, 'text', NULL, 'medium answer', NULL);
insert into parts values (14, 'b2:c6f5ce7adf37e396dde101898de94597', 0, 'text', NULL, 'My name is Ada.', NULL);
insert into parts values (15, 'b2:f1f787710c9b42ee88b2daee5c077e1c', 0, 'text', NULL, 'small answer', NULL);
insert into parts values (16, 'b2:26b17e74694f3bfeeac6f2469eef6d6b', 0, 'text', NULL, 'What is my name?', NULL);
insert into parts values (17, 'b2:083ebde5dea938e8df3597e18886ce86', 0, 'text', NULL, 'small answer', NULL);
insert into parts values (18, 'b2:e8bee34a2a650a0d3c9c221c8226adc6', 0, 'text', NULL, 'Explain the tritone.', NULL);
insert into parts values (19, 'b2:279e649bde805f5b02a0a5162048f7f0', 0, 'text', NULL, 'medium answer', NULL);
CREATE TABLE "turns" (
   "id" TEXT PRIMARY KEY,
   "thread_id" TEXT REFERENCES "threads"("id"),
   "parent_message_hash" TEXT REFERENCES "messages"("hash"),
   "tip_message_hash" TEXT REFERENCES "messages"("hash"),
   "model" TEXT,
   "resolved_model" TEXT,
   "options_json" TEXT,
   "schema_id" TEXT REFERENCES "schemas"("id"),
   "input_tokens" INTEGER,
   "output_tokens" INTEGER,
   "token_details" TEXT,
   "duration_ms" INTEGER,
   "datetime_utc" TEXT
, "response_json" TEXT);
insert into turns values ('01m8hcv3sm4rab9d8x0g0jmzxp', '01m8hcv3zhrrpdvwzgvqa8pgcm', 'b2:8de37e7d56fc97c6faa5a3c12ab1ce57', 'b2:fe1ecac9f750dd0f7c9dafd858edbec8', 'tiered', 'mlx/toy-small', '{"complexity": 2}', NULL, 5, 2, NULL, 101, '2026-11-28T15:37:06.617449+00:00', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 89}], "ttft_ms": 89, "cached_from": null, "key": "d512ee6c7e82257d64235eeed0abcd665d64f2c946b7c31549829a76ca9bd30c", "escalates": false, "local_only": false}, "response": null}');
insert into turns values ('01m8hcv40cbak24gf379vpezw4', '01m8hcv40f0c7znsp47ern5b53', 'b2:7fa9b3aa6922623605d752aa65a13700', 'b2:a482c010982b5e38319cecabaf2834c3', 'tiered', 'mlx/toy-small', '{"complexity": 6}', NULL, 5, 2, NULL, 0, '2026-11-28T15:37:06.829126+00:00', '{"tiered": {"complexity": 6, "source": "option", "task": null, "tier": "medium", "attempts": [{"tier": "medium", "model": "mlx/toy-medium", "outcome": "failed", "reason": "RuntimeError: out of memory", "ms": 0}, {"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 1, "cached_from": null, "key": "81fc2d1a58be93acecf7a8ebd1b43b356e44e55f0b5fe5aeaccdd73d5518e0d5", "escalates": false, "local_only": false}, "response": null}');
insert into turns values ('01m8hcv40x0bfx3t21665wygsc', '01m8hcv41a9t9nf6r88c2rpg9x', 'b2:855246ea6dc0e1f8b5bdaa4135dbb2c1', 'b2:3992f13c6d6bf5fe54706003ce45aef0', 'tiered', 'gemini/gemini-flash-latest', '{"complexity": 9}', NULL, 7, 5, '{"candidatesTokenCount": 3, "thoughtsTokenCount": 2}', 11, '2026-11-28T15:37:06.845551+00:00', '{"tiered": {"complexity": 9, "source": "option", "task": null, "tier": "cloud", "attempts": [{"tier": "cloud", "model": "gemini/gemini-flash-latest", "outcome": "ok", "reason": null, "ms": 11}], "ttft_ms": 11, "cached_from": null, "key": "c1a689229b0eff67b9a1490dcf0afb7d84429dcc8b8b72c60b8434a6090c78d8", "escalates": false, "local_only": false}, "response": {"candidates": [{"index": 0, "finishReason": "STOP"}], "modelVersion": "gemini-3-flash-preview", "responseId": "r-1"}}');
insert into turns values ('01m8hcv41rbbtymgpn8wvxxtrd', '01m8hcv421zz5nn3akqwz8pewg', 'b2:1c90ca1554bf8d8efcfe60ddf4da7a99', 'b2:4afbebb1b36d9363f236237947ddf140', 'tiered', 'mlx/toy-medium', '{"task": "theory_analysis", "cache": true}', NULL, 5, 2, NULL, 2, '2026-11-28T15:37:06.873018+00:00', '{"tiered": {"complexity": 5, "source": "task", "task": "theory_analysis", "tier": "medium", "attempts": [{"tier": "medium", "model": "mlx/toy-medium", "outcome": "ok", "reason": null, "ms": 3}], "ttft_ms": 3, "cached_from": null, "key": "8afda202dea3231a8c321a97b78d45ddb00c3292b9729ece85751f6a1cc2bebe", "escalates": false, "local_only": false}, "response": null}');
insert into turns values ('01m8hcv42w7523hnzafh2asv8a', '01m8hcv42z91anq5tq7ebz77q3', 'b2:1c90ca1554bf8d8efcfe60ddf4da7a99', 'b2:4afbebb1b36d9363f236237947ddf140', 'tiered', 'mlx/toy-medium', '{"task": "theory_analysis", "cache": true}', NULL, 0, 0, NULL, 2, '2026-11-28T15:37:06.908926+00:00', '{"tiered": {"complexity": 5, "source": "task", "task": "theory_analysis", "tier": "medium", "attempts": [{"tier": "medium", "model": "mlx/toy-medium", "outcome": "ok", "reason": null, "ms": 2}], "ttft_ms": 2, "cached_from": "01m8hcv41rbbtymgpn8wvxxtrd", "key": null, "escalates": false, "local_only": false}, "response": null}');
insert into turns values ('01m8hcv43xwkd059q7h7x71hx5', '01m8hcv441kshenamn85cph5p8', 'b2:d0de91002d152e2aa886284dab76cefb', 'b2:248de1e922aec35f2d8d1dbd0f38280c', 'tiered', 'mlx/toy-small', '{"complexity": 2}', NULL, 5, 2, NULL, 1, '2026-11-28T15:37:06.942827+00:00', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 1, "cached_from": null, "key": "73cc93513f2160bd46b72469999827c735c0b67cfe0bd063b80400be155dbef9", "escalates": false, "local_only": false, "rollout": {"name": "small", "share": 0.5, "included": true}}, "response": null}');
insert into turns values ('01m8hcv44c1k4cy7yb201aw30t', '01m8hcv44ebp4bxh17y74ezehp', 'b2:931dc234b81f6ed82f364119b9707265', 'b2:d6009752121e3e799501ebe00ee35149', 'tiered', 'mlx/toy-medium', '{"complexity": 2}', NULL, 5, 2, NULL, 0, '2026-11-28T15:37:06.956967+00:00', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "medium", "attempts": [{"tier": "medium", "model": "mlx/toy-medium", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 0, "cached_from": null, "key": "defa0f431b4b02c4d21054bc5628fe5a3528d4e0eb4442608e24d699c4fa50ed", "escalates": false, "local_only": false, "rollout": {"name": "small", "share": 0.5, "included": false}}, "response": null}');
insert into turns values ('01m8hcv44m9q8t5zmh6njvaawh', '01m8hcv44m9q8t5zmh6njvaawg', 'b2:c6f5ce7adf37e396dde101898de94597', 'b2:f1f787710c9b42ee88b2daee5c077e1c', 'tiered', 'mlx/toy-small', '{"complexity": 2, "local_only": true}', NULL, 5, 2, NULL, 0, '2026-11-28T15:37:06.965362+00:00', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 0, "cached_from": null, "key": "e0d68a48c1a7fe580c5a21e11c6e0eee40b2b740ccd1e49b9b960798d56763b7", "escalates": false, "local_only": true}, "response": null}');
insert into turns values ('01m8hcv45206sqj0wfxtkd07vq', '01m8hcv44m9q8t5zmh6njvaawg', 'b2:26b17e74694f3bfeeac6f2469eef6d6b', 'b2:083ebde5dea938e8df3597e18886ce86', 'tiered', 'mlx/toy-small', NULL, NULL, 5, 2, NULL, 0, '2026-11-28T15:37:06.978483+00:00', '{"tiered": {"complexity": 2, "source": "conversation", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 0, "cached_from": null, "key": "04f05f0b4ae0578f6e5d4caa6e6216da8e3845d1dcb70b1d9b9c6f79b9d7dba6", "escalates": false, "local_only": true}, "response": null}');
insert into turns values ('01m8hcv45gkr61fcmejtwha97a', '01m8hcv45tk70rggxfb2b9rg5p', 'b2:e8bee34a2a650a0d3c9c221c8226adc6', 'b2:279e649bde805f5b02a0a5162048f7f0', 'tiered', 'mlx/toy-medium', '{"complexity": 2, "escalate": true}', NULL, 5, 2, NULL, 8, '2026-11-28T15:37:06.993082+00:00', '{"tiered": {"complexity": 2, "source": "option", "task": null, "tier": "small", "attempts": [{"tier": "small", "model": "mlx/toy-small", "outcome": "failed", "reason": "escalated: the answer is a refusal", "ms": 8}, {"tier": "medium", "model": "mlx/toy-medium", "outcome": "ok", "reason": null, "ms": 0}], "ttft_ms": 8, "cached_from": null, "key": "1bff3257f7e76c17dc8e49d4e4e0e4b68b2a83ff169007d1beb21451866f04c3", "escalates": true, "local_only": false}, "response": null}');
CREATE TABLE "turn_tools" (
   "turn_id" TEXT REFERENCES "turns"("id"),
   "tool_id" INTEGER REFERENCES "tools"("id"),
   "instance_id" INTEGER REFERENCES "tool_instances"("id"),
   PRIMARY KEY ("turn_id", "tool_id")
);
