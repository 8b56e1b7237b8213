"""The tables, as migrations: a change is a new function at the end, never an edit of an old one.

Each runs in a transaction with the record of having run. Times are UTC in ISO 8601; paths are relative to the data
folder where the file lies in it; JSON is text. Knows no connection and no file.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("studio")


@migrations()
def m001_jobs(db: Database) -> None:
    """The queue. A render job and its clip have the same id; `recipe` is written before the first step."""
    db.execute("""
        CREATE TABLE jobs (
            pk INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,                       -- render, regenerate, …: who works it
            state TEXT NOT NULL CHECK (state IN
                ('queued', 'running', 'paused', 'done', 'failed', 'cancelled', 'interrupted')),
            priority INTEGER NOT NULL DEFAULT 0,      -- higher first
            position REAL NOT NULL,                   -- lower first among equals
            job TEXT NOT NULL CHECK (json_valid(job)),
            recipe TEXT CHECK (recipe IS NULL OR json_valid(recipe)),
            parent TEXT,                              -- id of the clip it starts from
            output TEXT,                              -- where the file goes; NULL: among the clips
            asked TEXT CHECK (asked IN ('cancel', 'pause', 'keep')),  -- of a running job, heeded at its next step
            attempts INTEGER NOT NULL DEFAULT 0,
            kept INTEGER,                             -- results on the way when it last went on by itself after a kill
            error TEXT,
            result TEXT CHECK (json_valid(result)),   -- of a job that makes no clip
            stage TEXT,
            step INTEGER NOT NULL DEFAULT 0,
            steps INTEGER NOT NULL DEFAULT 0,
            notices TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(notices)),
            created TEXT NOT NULL,
            started TEXT,                             -- the last time
            finished TEXT                             -- of done, failed and cancelled ones, and of no others
        ) STRICT""")
    db.execute("CREATE INDEX jobs_by_state ON jobs (state, priority DESC, position)")
    db.execute("CREATE INDEX jobs_by_end ON jobs (finished, id)")
    db.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")


@migrations()
def m002_clips(db: Database) -> None:
    """The gallery. A clip's key is its age, so that every index has the newest first without sorting."""
    db.execute("""
        CREATE TABLE clips (
            pk INTEGER PRIMARY KEY,                   -- microseconds from 1970 to its making
            id TEXT NOT NULL UNIQUE,
            parent TEXT,                              -- id of the clip it was made from, which may be gone
            path TEXT NOT NULL,
            prompt TEXT NOT NULL,
            negative_prompt TEXT NOT NULL DEFAULT '',
            notes TEXT NOT NULL DEFAULT '',
            tags TEXT NOT NULL DEFAULT '',            -- the rows of clip_tags again, a line each
            words TEXT NOT NULL,                      -- prompt, notes and tags as app.gallery.words has them
            seed INTEGER NOT NULL,
            model TEXT NOT NULL,
            stages TEXT NOT NULL,                     -- base, base+interpolation, …
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            frames INTEGER NOT NULL,
            fps REAL NOT NULL,
            duration REAL NOT NULL,                   -- seconds it plays
            bytes INTEGER NOT NULL,
            seconds REAL NOT NULL,                    -- the making took
            frame_hash TEXT NOT NULL,                 -- of the frames before encoding
            file_hash TEXT NOT NULL,                  -- SHA-256 of the file
            stack INTEGER NOT NULL,                   -- the same for clips whose recipes differ in the seed alone
            rating INTEGER NOT NULL DEFAULT 0 CHECK (rating BETWEEN 0 AND 5),
            favourite INTEGER NOT NULL DEFAULT 0 CHECK (favourite IN (0, 1)),
            trashed TEXT,                             -- since when; files move only when purged
            missing TEXT                              -- since when the file is gone from where it should be
        ) STRICT""")
    # Recipes are long and a list of clips needs none: apart from the rest, they do not make it slow.
    db.execute("""
        CREATE TABLE clip_recipes (
            clip INTEGER PRIMARY KEY REFERENCES clips (pk) ON DELETE CASCADE,
            recipe TEXT NOT NULL CHECK (json_valid(recipe))
        ) STRICT""")
    for column in ("path", "parent", "seed", "frame_hash", "file_hash"):
        db.execute(f"CREATE INDEX clips_by_{column} ON clips ({column})")
    # What else the gallery filters and sorts by, in one narrow place: any combination is one walk along it.
    # One for each order of clips, and of the clips of a stack.
    filters = ["trashed", "model", "stages", "width", "height", "duration", "rating", "favourite", "missing"]
    orders = {"age": "pk, stack", "rating": "rating, pk, stack", "duration": "duration, pk, stack"}
    orders |= {"stack": "stack, pk", "stack_rating": "stack, rating, pk"}
    for name, order in orders.items():
        others = ", ".join(column for column in filters if column not in order.split(", "))
        db.execute(f"CREATE INDEX clips_by_{name} ON clips ({order}, {others})")
    for column in ("model", "stages"):  # to count each
        db.execute(f"CREATE INDEX clips_by_{column} ON clips ({column}, trashed)")
    db.execute("CREATE INDEX clips_trashed ON clips (trashed) WHERE trashed IS NOT NULL")
    db.execute("CREATE INDEX clips_missing ON clips (missing) WHERE missing IS NOT NULL")


@migrations()
def m003_about_clips(db: Database) -> None:
    """Values that clips have in any number, and the full-text index, which triggers update."""
    db.execute("""
        CREATE TABLE clip_tags (
            clip INTEGER NOT NULL REFERENCES clips (pk) ON DELETE CASCADE,
            tag TEXT NOT NULL,
            PRIMARY KEY (clip, tag)
        ) STRICT""")
    db.execute("CREATE INDEX clip_tags_by_tag ON clip_tags (tag, clip)")
    db.execute("""
        CREATE TABLE clip_adapters (
            clip INTEGER NOT NULL REFERENCES clips (pk) ON DELETE CASCADE,
            adapter TEXT NOT NULL,                    -- hash of the adapter's file
            weight REAL NOT NULL,
            PRIMARY KEY (clip, adapter)
        ) STRICT""")
    db.execute("CREATE INDEX clip_adapters_by_adapter ON clip_adapters (adapter, clip)")
    db.execute("""
        CREATE VIRTUAL TABLE clips_text USING fts5 (
            words, content = 'clips', content_rowid = 'pk', tokenize = 'porter unicode61', prefix = '1 2 3'
        )""")
    old = "INSERT INTO clips_text (clips_text, rowid, words) VALUES ('delete', old.pk, old.words);"
    new = "INSERT INTO clips_text (rowid, words) VALUES (new.pk, new.words);"
    db.execute(f"CREATE TRIGGER clips_text_insert AFTER INSERT ON clips BEGIN {new} END")
    db.execute(f"CREATE TRIGGER clips_text_delete AFTER DELETE ON clips BEGIN {old} END")
    db.execute(f"CREATE TRIGGER clips_text_update AFTER UPDATE OF words ON clips BEGIN {old} {new} END")
    db.execute("CREATE TABLE saved_searches (name TEXT PRIMARY KEY, query TEXT NOT NULL, created TEXT NOT NULL) STRICT")


@migrations()
def m004_work(db: Database) -> None:
    """Latents of stages and the timings of jobs."""
    db.execute("""
        CREATE TABLE artefacts (                      -- a stage's latents, on disk as soon as they are finished
            job TEXT NOT NULL,
            stage TEXT NOT NULL,
            path TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            file_hash TEXT NOT NULL,                  -- SHA-256
            created TEXT NOT NULL,
            PRIMARY KEY (job, stage)
        ) STRICT""")
    db.execute("""
        CREATE TABLE segments (                       -- of a long video, in order
            job TEXT NOT NULL,
            number INTEGER NOT NULL,
            prompt TEXT NOT NULL,
            path TEXT,                                -- NULL until it is made
            frames INTEGER,
            PRIMARY KEY (job, number)
        ) STRICT""")
    db.execute("""
        CREATE TABLE adapters (
            hash TEXT PRIMARY KEY,                    -- SHA-256 of the file
            name TEXT NOT NULL,
            path TEXT NOT NULL,
            about TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(about)),
            created TEXT NOT NULL
        ) STRICT""")
    db.execute("""
        CREATE TABLE timings (                        -- how long a stage took, for estimates
            pk INTEGER PRIMARY KEY,
            job TEXT NOT NULL,
            stage TEXT NOT NULL,
            model TEXT NOT NULL,
            device TEXT NOT NULL,
            steps INTEGER NOT NULL,
            frames INTEGER NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            seconds REAL NOT NULL,
            peak_bytes INTEGER,                       -- of memory, of the whole process until then
            created TEXT NOT NULL
        ) STRICT""")
    db.execute("CREATE INDEX timings_by_stage ON timings (model, stage, created DESC)")


@migrations()
def m005_presets(db: Database) -> None:
    """Presets of the page."""
    db.execute("""
        CREATE TABLE presets (
            name TEXT PRIMARY KEY,
            settings TEXT NOT NULL CHECK (json_valid(settings)),
            created TEXT NOT NULL
        ) STRICT""")


@migrations()
def m006_long_videos(db: Database) -> None:
    """Long videos: their parts, projects and quality reports."""
    db.execute("DROP TABLE segments")  # never written: `parts` is what they became
    db.execute("""
        CREATE TABLE parts (                          -- a segment, or a window of a later stage, as soon as it is made
            job TEXT NOT NULL,
            key TEXT NOT NULL,                        -- SHA-256 of all that decides it: the same key, the same bits
            stage TEXT NOT NULL,
            number INTEGER NOT NULL,
            path TEXT NOT NULL,
            frames INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            file_hash TEXT NOT NULL,                  -- SHA-256 of the file
            facts TEXT NOT NULL CHECK (json_valid(facts)),
            created TEXT NOT NULL,
            PRIMARY KEY (job, key)
        ) STRICT""")
    db.execute("CREATE INDEX parts_by_key ON parts (key)")
    db.execute("""
        CREATE TABLE projects (                       -- long videos that a person works on
            id TEXT PRIMARY KEY,
            title TEXT NOT NULL,
            plan TEXT NOT NULL CHECK (json_valid(plan)),
            request TEXT NOT NULL CHECK (json_valid(request)),
            model TEXT NOT NULL,
            start TEXT CHECK (start IS NULL OR json_valid(start)),
            clip TEXT,                                -- the last one made of it
            job TEXT,                                 -- the last one that was to make it
            created TEXT NOT NULL,
            updated TEXT NOT NULL
        ) STRICT""")
    db.execute("CREATE INDEX projects_by_use ON projects (updated DESC, id)")
    db.execute("CREATE INDEX projects_by_job ON projects (job)")
    db.execute("""
        CREATE TABLE clip_reports (                   -- seams and drift of a long video
            clip INTEGER PRIMARY KEY REFERENCES clips (pk) ON DELETE CASCADE,
            report TEXT NOT NULL CHECK (json_valid(report))
        ) STRICT""")
    # Which segment or window of its stage a long video's job is at, from 1, and how many there are; 0 for a clip.
    for column in ("part", "parts"):
        db.execute(f"ALTER TABLE jobs ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")


@migrations()
def m007_owned(db: Database) -> None:
    """The owners of jobs, clips and projects where visitors share one studio; empty at home."""
    db.execute("""
        CREATE TABLE owned (
            id TEXT PRIMARY KEY,                      -- of jobs and clips, which have one id, and of projects
            owner TEXT NOT NULL,                      -- SHA-256 of what the visitor is known by
            shared TEXT                               -- since when the clip is shown to all
        ) STRICT""")
    db.execute("CREATE INDEX owned_by_owner ON owned (owner, id)")
    db.execute("CREATE INDEX owned_shared ON owned (shared, id) WHERE shared IS NOT NULL")


@migrations()
def m008_adapter_weights(db: Database) -> None:
    """The weights set on an adapter's card for its next use; NULL if none were set."""
    for column in ("weight", "text_weight"):
        db.execute(f"ALTER TABLE adapters ADD COLUMN {column} REAL")
