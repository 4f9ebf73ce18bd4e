-- The database of one run (run.db). docs/schema.md describes every table and
-- view; application_id and user_version are set by store/open.c in the
-- transaction that runs this file.
--
-- Keys are natural: a row is named by stage, step, slot (the group's place in
-- the step), candidate. What has been written stays: triggers refuse UPDATE and
-- DELETE of everything that is learned from. Blobs are packed little-endian.
-- A NULL in a REAL column is NaN, which SQLite cannot store.

CREATE TABLE runs (
	run INTEGER PRIMARY KEY CHECK (run = 1),
	id TEXT NOT NULL CHECK (id <> ''),
	name TEXT NOT NULL,
	seed INTEGER NOT NULL,
	fingerprint TEXT NOT NULL,
	program TEXT NOT NULL,
	config TEXT NOT NULL,
	time REAL NOT NULL
) STRICT;

CREATE TABLE stages (
	stage TEXT PRIMARY KEY CHECK (stage <> ''),
	ordinal INTEGER NOT NULL UNIQUE CHECK (ordinal >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE prompts (
	prompt INTEGER PRIMARY KEY CHECK (prompt >= 0),
	text TEXT NOT NULL,
	hash TEXT NOT NULL CHECK (length(hash) = 32),
	extra TEXT
) STRICT;

CREATE TABLE steps (
	stage TEXT NOT NULL REFERENCES stages (stage),
	step INTEGER NOT NULL CHECK (step >= 0),
	policy_version INTEGER NOT NULL CHECK (policy_version >= 0),
	time REAL NOT NULL,
	PRIMARY KEY (stage, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
	stage TEXT NOT NULL,
	step INTEGER NOT NULL,
	slot INTEGER NOT NULL CHECK (slot >= 0),
	prompt INTEGER NOT NULL REFERENCES prompts (prompt),
	policy_version INTEGER NOT NULL CHECK (policy_version >= 0),
	size INTEGER NOT NULL CHECK (size BETWEEN 2 AND 64),
	prompt_tokens BLOB NOT NULL CHECK (length(prompt_tokens) >= 4 AND length(prompt_tokens) % 4 = 0),
	moe_layers INTEGER NOT NULL CHECK (moe_layers >= 0),
	experts_per_token INTEGER NOT NULL CHECK (experts_per_token >= 0),
	terms INTEGER NOT NULL CHECK (terms BETWEEN 0 AND 16),
	scorer_version TEXT NOT NULL,
	PRIMARY KEY (stage, step, slot),
	FOREIGN KEY (stage, step) REFERENCES steps (stage, step)
) STRICT;

CREATE TABLE candidates (
	stage TEXT NOT NULL,
	step INTEGER NOT NULL,
	slot INTEGER NOT NULL,
	candidate INTEGER NOT NULL CHECK (candidate BETWEEN 0 AND 63),
	token_count INTEGER NOT NULL CHECK (token_count >= 0),
	finish INTEGER NOT NULL CHECK (finish BETWEEN 0 AND 2), -- 0 end token, 1 stop text, 2 length
	tokens BLOB NOT NULL CHECK (length(tokens) = 4 * token_count),
	logprobs BLOB NOT NULL CHECK (length(logprobs) = 4 * token_count),
	experts BLOB CHECK (length(experts) % (2 * token_count) = 0),
	text TEXT NOT NULL,
	reward REAL,
	PRIMARY KEY (stage, step, slot, candidate),
	FOREIGN KEY (stage, step, slot) REFERENCES groups (stage, step, slot)
) STRICT;

CREATE TABLE scores (
	stage TEXT NOT NULL,
	step INTEGER NOT NULL,
	slot INTEGER NOT NULL,
	candidate INTEGER NOT NULL,
	term TEXT NOT NULL CHECK (term <> ''),
	value REAL,
	PRIMARY KEY (stage, step, slot, candidate, term),
	FOREIGN KEY (stage, step, slot, candidate) REFERENCES candidates (stage, step, slot, candidate)
) STRICT, WITHOUT ROWID;

-- Of all response tokens of the group, candidate after candidate.
CREATE TABLE reference_logprobs (
	stage TEXT NOT NULL,
	step INTEGER NOT NULL,
	slot INTEGER NOT NULL,
	logprobs BLOB NOT NULL CHECK (length(logprobs) % 4 = 0),
	PRIMARY KEY (stage, step, slot),
	FOREIGN KEY (stage, step, slot) REFERENCES groups (stage, step, slot)
) STRICT;

-- ranking: JSON array of candidates, best first (fewer than the group has: a
-- partial ranking). ranks: their rank numbers, 1 is best, equal is a tie.
-- margins: JSON array, one shorter: how much better each is than the next.
CREATE TABLE comparisons (
	stage TEXT NOT NULL,
	step INTEGER NOT NULL,
	slot INTEGER NOT NULL,
	source TEXT NOT NULL CHECK (source <> ''),
	scorer_version TEXT NOT NULL,
	ranking TEXT NOT NULL CHECK (json_array_length(ranking) BETWEEN 2 AND 64),
	ranks TEXT NOT NULL CHECK (json_array_length(ranks) = json_array_length(ranking)),
	margins TEXT CHECK (json_array_length(margins) = json_array_length(ranking) - 1),
	PRIMARY KEY (stage, step, slot, source, scorer_version),
	FOREIGN KEY (stage, step, slot) REFERENCES groups (stage, step, slot)
) STRICT;

CREATE TABLE metrics (
	stage TEXT NOT NULL REFERENCES stages (stage),
	step INTEGER NOT NULL CHECK (step >= 0),
	name TEXT NOT NULL CHECK (name <> ''),
	value REAL,
	PRIMARY KEY (stage, step, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
	event INTEGER PRIMARY KEY,
	stage TEXT NOT NULL REFERENCES stages (stage),
	step INTEGER NOT NULL CHECK (step >= 0),
	kind TEXT NOT NULL CHECK (kind <> ''),
	subject INTEGER NOT NULL,
	body TEXT NOT NULL,
	time REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_exact ON events (stage, step, kind, subject)
	WHERE kind NOT GLOB 'timing/*' AND kind NOT GLOB 'perf/*';

CREATE TABLE checkpoints (
	stage TEXT NOT NULL REFERENCES stages (stage),
	step INTEGER NOT NULL CHECK (step >= 0),
	version INTEGER NOT NULL CHECK (version >= 0),
	path TEXT NOT NULL CHECK (path <> ''),
	hash TEXT NOT NULL CHECK (hash <> ''),
	time REAL NOT NULL,
	PRIMARY KEY (stage, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE evaluations (
	stage TEXT NOT NULL REFERENCES stages (stage),
	step INTEGER NOT NULL CHECK (step >= 0),
	name TEXT NOT NULL CHECK (name <> ''),
	n INTEGER NOT NULL CHECK (n >= 0),
	value REAL,
	low REAL,
	high REAL,
	time REAL NOT NULL,
	PRIMARY KEY (stage, step, name, n)
) STRICT, WITHOUT ROWID;

-- The pairs of every comparison, better one first (45 for a full ranking of ten); in a tie the order means nothing.
CREATE VIEW pairs AS
SELECT c.stage, c.step, c.slot, c.source, c.scorer_version,
	a.value AS winner, b.value AS loser,
	json_extract(c.ranks, '$[' || a.key || ']') = json_extract(c.ranks, '$[' || b.key || ']') AS tie,
	CASE WHEN c.margins IS NOT NULL THEN
		(SELECT total(m.value) FROM json_each(c.margins) m WHERE m.key >= a.key AND m.key < b.key)
	END AS margin
FROM comparisons c, json_each(c.ranking) a, json_each(c.ranking) b
WHERE a.key < b.key;

-- Best and worst of each comparison: the first and the last of its ranking.
CREATE VIEW extremes AS
SELECT c.stage, c.step, c.slot, g.prompt, c.source, c.scorer_version,
	b.candidate AS best, b.reward AS best_reward, b.text AS best_text,
	w.candidate AS worst, w.reward AS worst_reward, w.text AS worst_text
FROM comparisons c
JOIN groups g ON g.stage = c.stage AND g.step = c.step AND g.slot = c.slot
JOIN candidates b ON b.stage = c.stage AND b.step = c.step AND b.slot = c.slot
	AND b.candidate = json_extract(c.ranking, '$[0]')
JOIN candidates w ON w.stage = c.stage AND w.step = c.step AND w.slot = c.slot
	AND w.candidate = json_extract(c.ranking, '$[#-1]');

CREATE VIEW reward_by_step AS
SELECT stage, step, count(*) AS candidates, avg(reward) AS reward, min(reward) AS lowest, max(reward) AS highest,
	avg(token_count) AS tokens
FROM candidates GROUP BY stage, step;

CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs BEGIN SELECT raise(ABORT, 'runs is immutable'); END;
CREATE TRIGGER runs_no_update BEFORE UPDATE ON runs BEGIN SELECT raise(ABORT, 'runs is immutable'); END;
CREATE TRIGGER prompts_no_delete BEFORE DELETE ON prompts BEGIN SELECT raise(ABORT, 'prompts is immutable'); END;
CREATE TRIGGER prompts_no_update BEFORE UPDATE ON prompts BEGIN SELECT raise(ABORT, 'prompts is immutable'); END;
CREATE TRIGGER steps_no_delete BEFORE DELETE ON steps BEGIN SELECT raise(ABORT, 'steps is immutable'); END;
CREATE TRIGGER steps_no_update BEFORE UPDATE ON steps BEGIN SELECT raise(ABORT, 'steps is immutable'); END;
CREATE TRIGGER groups_no_delete BEFORE DELETE ON groups BEGIN SELECT raise(ABORT, 'groups is immutable'); END;
CREATE TRIGGER groups_no_update BEFORE UPDATE ON groups BEGIN SELECT raise(ABORT, 'groups is immutable'); END;
CREATE TRIGGER candidates_no_delete BEFORE DELETE ON candidates BEGIN SELECT raise(ABORT, 'candidates is immutable'); END;
CREATE TRIGGER candidates_no_update BEFORE UPDATE ON candidates BEGIN SELECT raise(ABORT, 'candidates is immutable'); END;
CREATE TRIGGER scores_no_delete BEFORE DELETE ON scores BEGIN SELECT raise(ABORT, 'scores is immutable'); END;
CREATE TRIGGER scores_no_update BEFORE UPDATE ON scores BEGIN SELECT raise(ABORT, 'scores is immutable'); END;
CREATE TRIGGER reference_logprobs_no_delete BEFORE DELETE ON reference_logprobs BEGIN SELECT raise(ABORT, 'reference_logprobs is immutable'); END;
CREATE TRIGGER reference_logprobs_no_update BEFORE UPDATE ON reference_logprobs BEGIN SELECT raise(ABORT, 'reference_logprobs is immutable'); END;
CREATE TRIGGER comparisons_no_delete BEFORE DELETE ON comparisons BEGIN SELECT raise(ABORT, 'comparisons is immutable'); END;
CREATE TRIGGER comparisons_no_update BEFORE UPDATE ON comparisons BEGIN SELECT raise(ABORT, 'comparisons is immutable'); END;
CREATE TRIGGER metrics_no_delete BEFORE DELETE ON metrics BEGIN SELECT raise(ABORT, 'metrics is immutable'); END;
CREATE TRIGGER metrics_no_update BEFORE UPDATE ON metrics BEGIN SELECT raise(ABORT, 'metrics is immutable'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'events is immutable'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT raise(ABORT, 'events is immutable'); END;
