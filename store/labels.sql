-- labels.db: the only place of human labels. docs/labelling.md describes it for
-- those who read it by themselves; application_id and user_version are set by
-- store/open.c in the transaction that runs this file.
--
-- `events` is what people said and took back: append-only, numbered without
-- gaps in time, each with the key its page gave it, so that a repeated request
-- is the same event. What counts now is a view (labels). Texts, and what was
-- asked in which layout, are immutable too. Changing tables: the state of
-- campaigns and people, memberships, and notes, which hold the free text that a
-- person wrote and go when the person is erased.

CREATE TABLE campaigns (
	campaign INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE CHECK (name <> ''),
	state TEXT NOT NULL CHECK (state IN ('open', 'paused', 'closed')),
	options TEXT NOT NULL CHECK (json_valid(options)),
	time REAL NOT NULL
) STRICT;

CREATE TABLE guidelines (
	campaign INTEGER NOT NULL REFERENCES campaigns (campaign),
	version INTEGER NOT NULL CHECK (version >= 1),
	text TEXT NOT NULL,
	time REAL NOT NULL,
	PRIMARY KEY (campaign, version)
) STRICT;

-- token: BLAKE2b of the secret in the invitation; NULL: none works. generation: sessions of an older one are over.
CREATE TABLE people (
	person INTEGER PRIMARY KEY AUTOINCREMENT,
	name TEXT NOT NULL,
	token BLOB UNIQUE CHECK (token IS NULL OR length(token) = 32),
	state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'revoked', 'erased', 'imported')),
	generation INTEGER NOT NULL,
	time REAL NOT NULL
) STRICT;

CREATE TABLE members (
	campaign INTEGER NOT NULL REFERENCES campaigns (campaign),
	person INTEGER NOT NULL REFERENCES people (person),
	state TEXT NOT NULL CHECK (state IN ('invited', 'working', 'failed', 'opted_out')),
	guidelines INTEGER NOT NULL, -- version accepted, 0: none yet
	languages TEXT NOT NULL,     -- comma separated; '': all
	PRIMARY KEY (campaign, person)
) STRICT, WITHOUT ROWID;

-- number: from 0 within the campaign, the key of its random numbers. format: text, or chat (prompt is a JSON array of
-- {role, content}). role: gold and qualification items have an expected answer, {"best": candidate, "worst": candidate}.
CREATE TABLE items (
	item INTEGER PRIMARY KEY,
	campaign INTEGER NOT NULL REFERENCES campaigns (campaign),
	number INTEGER NOT NULL CHECK (number >= 0),
	role TEXT NOT NULL CHECK (role IN ('task', 'gold', 'qualification')),
	format TEXT NOT NULL CHECK (format IN ('text', 'chat')),
	language TEXT NOT NULL,
	prompt TEXT NOT NULL,
	hash TEXT NOT NULL CHECK (length(hash) = 32),
	size INTEGER NOT NULL CHECK (size BETWEEN 2 AND 64),
	words INTEGER NOT NULL CHECK (words >= 0), -- of the longest candidate
	expected TEXT CHECK (expected IS NULL OR json_valid(expected)),
	extra TEXT CHECK (extra IS NULL OR json_valid(extra)),
	UNIQUE (campaign, number)
) STRICT;
CREATE INDEX items_role ON items (campaign, role, number);

CREATE TABLE candidates (
	item INTEGER NOT NULL REFERENCES items (item),
	candidate INTEGER NOT NULL CHECK (candidate BETWEEN 0 AND 63),
	text TEXT NOT NULL,
	hash TEXT NOT NULL CHECK (length(hash) = 32),
	source TEXT NOT NULL, -- system, model or policy version that wrote it; never shown before the answer
	test TEXT,            -- result of a test of it, shown after the answer
	extra TEXT CHECK (extra IS NULL OR json_valid(extra)),
	PRIMARY KEY (item, candidate)
) STRICT, WITHOUT ROWID;

-- A person takes an item: once as a task, and perhaps again as a swapped repeat or to settle a disagreement.
CREATE TABLE assignments (
	assignment INTEGER PRIMARY KEY,
	item INTEGER NOT NULL REFERENCES items (item),
	person INTEGER NOT NULL REFERENCES people (person),
	kind TEXT NOT NULL CHECK (kind IN ('task', 'gold', 'qualification', 'repeat', 'adjudication')),
	place INTEGER NOT NULL, -- number of this person's assignment in the campaign
	time REAL NOT NULL,
	done REAL,              -- when nothing more was to be asked; the one column that is set later
	UNIQUE (item, person, kind)
) STRICT;
CREATE INDEX assignments_person ON assignments (person, assignment);
CREATE INDEX assignments_kind ON assignments (person, kind);
CREATE INDEX assignments_open ON assignments (person, assignment) WHERE done IS NULL;

-- What was laid out, in which order, and why. kind: 1 best and worst, 2 duel, 3 order. hashes: of the prompt, then of the
-- texts in the order shown.
CREATE TABLE asks (
	ask INTEGER PRIMARY KEY,
	assignment INTEGER NOT NULL REFERENCES assignments (assignment),
	criterion INTEGER NOT NULL CHECK (criterion >= 0),
	place INTEGER NOT NULL CHECK (place >= 0),
	kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
	design TEXT NOT NULL,
	arm TEXT NOT NULL,
	probability REAL NOT NULL,
	shown TEXT NOT NULL CHECK (json_array_length(shown) BETWEEN 2 AND 64),
	hashes TEXT NOT NULL CHECK (json_array_length(hashes) = json_array_length(shown) + 1),
	repeats INTEGER REFERENCES asks (ask),
	time REAL NOT NULL,
	UNIQUE (assignment, place, criterion)
) STRICT;

-- label: an answer to an ask. undo: takes label `undoes` back. exclude, include: all labels of a person count no more, or again.
CREATE TABLE events (
	event INTEGER PRIMARY KEY AUTOINCREMENT,
	key TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 8 AND 80),
	kind TEXT NOT NULL CHECK (kind IN ('label', 'undo', 'exclude', 'include')),
	person INTEGER NOT NULL REFERENCES people (person),
	ask INTEGER REFERENCES asks (ask),
	undoes INTEGER UNIQUE REFERENCES events (event),
	outcome TEXT CHECK (outcome IN ('ranked', 'tie', 'all_bad', 'skip', 'cannot_rank', 'flag')),
	ranks TEXT CHECK (ranks IS NULL OR json_valid(ranks)), -- of each shown, in the order shown; see labels.h
	strength INTEGER NOT NULL CHECK (strength BETWEEN 0 AND 3),
	visible_ms INTEGER NOT NULL CHECK (visible_ms >= 0),
	guidelines INTEGER NOT NULL,
	page TEXT NOT NULL,
	time REAL NOT NULL,
	CHECK ((kind = 'label') = (ask IS NOT NULL AND outcome IS NOT NULL)),
	CHECK ((kind = 'undo') = (undoes IS NOT NULL)),
	CHECK ((outcome IN ('ranked', 'tie')) = (ranks IS NOT NULL) OR outcome IS NULL)
) STRICT;
CREATE INDEX events_ask ON events (ask);
CREATE INDEX events_person ON events (person, event);
CREATE INDEX events_exclude ON events (person, event) WHERE kind = 'exclude';
CREATE INDEX events_include ON events (person, event) WHERE kind = 'include';

CREATE TABLE notes (
	event INTEGER PRIMARY KEY REFERENCES events (event),
	reason TEXT,
	correction TEXT
) STRICT;

-- What the owner did, and when.
CREATE TABLE journal (
	entry INTEGER PRIMARY KEY AUTOINCREMENT,
	what TEXT NOT NULL,
	subject INTEGER NOT NULL,
	detail TEXT NOT NULL,
	time REAL NOT NULL
) STRICT;

CREATE VIEW excluded AS
SELECT person FROM events x
WHERE kind = 'exclude' AND NOT EXISTS (SELECT 1 FROM events y WHERE y.person = x.person AND y.kind = 'include' AND y.event > x.event)
GROUP BY person;

-- What counts now.
CREATE VIEW labels AS
SELECT e.event, i.campaign, i.item, i.number, i.role, s.kind AS assigned, e.person, s.assignment, a.ask, a.criterion, a.place, a.kind, a.design, a.arm,
	a.probability, a.shown, a.hashes, a.repeats, e.outcome, e.ranks, e.strength, e.visible_ms, e.guidelines, e.page, e.time
FROM events e
JOIN asks a ON a.ask = e.ask
JOIN assignments s ON s.assignment = a.assignment
JOIN items i ON i.item = s.item
WHERE e.kind = 'label' AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.event) AND e.person NOT IN (SELECT person FROM excluded);

CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT raise(ABORT, 'events is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'events is append-only'); END;
CREATE TRIGGER asks_no_update BEFORE UPDATE ON asks BEGIN SELECT raise(ABORT, 'asks is immutable'); END;
CREATE TRIGGER asks_no_delete BEFORE DELETE ON asks BEGIN SELECT raise(ABORT, 'asks is immutable'); END;
CREATE TRIGGER items_no_update BEFORE UPDATE ON items BEGIN SELECT raise(ABORT, 'items is immutable'); END;
CREATE TRIGGER items_no_delete BEFORE DELETE ON items BEGIN SELECT raise(ABORT, 'items is immutable'); END;
CREATE TRIGGER candidates_no_update BEFORE UPDATE ON candidates BEGIN SELECT raise(ABORT, 'candidates is immutable'); END;
CREATE TRIGGER candidates_no_delete BEFORE DELETE ON candidates BEGIN SELECT raise(ABORT, 'candidates is immutable'); END;
CREATE TRIGGER guidelines_no_update BEFORE UPDATE ON guidelines BEGIN SELECT raise(ABORT, 'guidelines is immutable'); END;
CREATE TRIGGER guidelines_no_delete BEFORE DELETE ON guidelines BEGIN SELECT raise(ABORT, 'guidelines is immutable'); END;
CREATE TRIGGER assignments_no_delete BEFORE DELETE ON assignments BEGIN SELECT raise(ABORT, 'assignments is immutable'); END;
CREATE TRIGGER assignments_no_update BEFORE UPDATE OF assignment, item, person, kind, place, time ON assignments
BEGIN SELECT raise(ABORT, 'assignments is immutable'); END;
