//! Every maximum, with its unit and its reason.
//!
//! A bound chosen here is a design; the same bound found in production is an incident. Constants
//! that depend on each other say so in a `const` assertion.

/// Bytes. A slab: big enough that a read, a probe and a hand-over cost little per byte, small
/// enough to stay in a core's second-level cache.
pub const SLAB_BYTES: usize = 256 << 10;
/// Bytes. Of a longer frame only this much is kept, as a dead letter. Wazuh's longest legal line
/// is some hundred kilobytes; this leaves room for sites that patched it.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Slabs in a shard's pool. Credits allow fewer, so taking one never waits for the pool.
pub const SLABS_PER_SHARD: usize = 128;
/// Bytes in flight per source, all its streams together: what may be read and not yet acked.
pub const CREDIT_BYTES: u64 = 16 << 20;
/// Batches in flight per source. At least two, so that reading and sending overlap.
pub const CREDIT_BATCHES: usize = 1024;
/// What the API may have asked of scanning and is not done yet.
pub const SCAN_WISHES: usize = 256;
/// What the monitor found and nobody has taken yet; the oldest go.
pub const MONITOR_RECORDS: usize = 1000;
/// Relations of files to Suricata's events that are known as told.
pub const SCAN_RELATIONS_MAX: usize = 100_000;
/// Of these, and of events, the newest that are shown.
pub const SCAN_RELATIONS_SHOWN: usize = 1000;
/// Newest files that events may still come to relate to.
pub const SCAN_RELATED_FILES: usize = 10_000;
/// Alerts of one file to which a relation is added.
pub const SCAN_AMENDED_ALERTS: u64 = 100;
/// Files that one round of removals looks at, the oldest ones.
pub const SCAN_CLEANUP_CANDIDATES: usize = 100_000;
/// Of these, how many are asked for at once.
pub const SCAN_CLEANUP_PAGE: usize = 1000;
/// Characters of a text of others in a line of the log.
pub const LOGGED_CHARS: usize = 500;
/// Records that source `scan` brings at once; an alert is a few KiB.
pub const FEED_RECORDS: usize = 64;
/// Streams with their home on one shard (files of a glob, each one stream).
pub const STREAMS_PER_SHARD: usize = 1024;
/// Branches of one source: a branch's number is a `u8`.
pub const BRANCHES_MAX: usize = 64;
/// Outputs of a topology: which outputs a sink takes is a `u64` mask.
pub const OUTPUTS_MAX: usize = 64;
/// Sinks of a topology.
pub const SINKS_MAX: usize = 64;
/// Bytes a second that saving snapshots may cost; a larger one is saved as much more rarely.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 256 << 10;
/// Milliseconds after which parcels are handed in again that an inbox had no room for: lookups make
/// many of one batch.
pub const BACKLOG_RETRY_MS: u64 = 10;
/// Entries of a `dedup` stage at most: each takes some 80 bytes.
pub const DEDUP_ENTRIES_MAX: usize = 4 << 20;
/// Windows of a `suppress` stage at most.
pub const SUPPRESS_ENTRIES_MAX: usize = 1 << 20;
/// Bytes of the payloads that one `suppress` stage keeps for its summaries.
pub const SUPPRESS_BYTES: usize = 16 << 20;
/// Groups of a `storm` stage at most.
pub const STORM_GROUPS_MAX: usize = 1 << 20;
/// Bytes that the groups of one `storm` stage keep for their summaries.
pub const STORM_BYTES: usize = 64 << 20;
/// Distinct paths that are counted in one window of a group: beyond, a scan is a scan.
pub const STORM_PATHS_MAX: usize = 1000;
/// Transactions that a summary names.
pub const STORM_SAMPLES: usize = 5;
/// Keys of each rate of a `rates` stage at most.
pub const RATES_KEYS_MAX: usize = 1 << 20;
/// Members that a stage `changes` may remember.
pub const CHANGES_ENTRIES_MAX: usize = 1 << 20;
/// Different rules that are told apart of one client in one window.
pub const RATES_DISTINCT_MAX: usize = 256;
/// Messages in one batch: a message's number in a delivery tag has 24 bits.
pub const BATCH_MESSAGES_MAX: usize = 1 << 24;
/// Bytes. librdkafka's `queue.buffering.max.kbytes`; its own default of 1 GiB breaks our bar.
pub const KAFKA_QUEUE_BYTES: u64 = 16 << 20;
/// Requests in flight per broker; idempotence keeps order up to five.
pub const KAFKA_IN_FLIGHT_MAX: u32 = 5;
/// Bytes of a broker's message that names a file to be scanned: a path, some metadata, what Zeek says.
pub const SCAN_ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a task's metadata, as JSON: they are kept with the task, and shown.
pub const SCAN_METADATA_BYTES_MAX: usize = 4 << 10;
/// Bytes of a worker's answer that are read: its status has said all.
pub const SCAN_PUSH_ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a master's answer to its workers that are read, but for files: a hundred tasks with metadata.
pub const SCAN_MASTER_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Milliseconds between two saves of the checkpoint.
pub const CHECKPOINT_EVERY_MS: u64 = 1000;
/// Milliseconds within which the store thread gathers writes into one fsync.
pub const GROUP_COMMIT_MS: u64 = 50;
/// Seconds that a lease of a task outlasts the timeout of its scan.
pub const SCAN_LEASE_GRACE_S: u64 = 30;
/// Children that one file may take with it; then nobody scans it again.
pub const SCAN_POISON_MAX: u32 = 2;
/// Every so many tasks given out, the oldest goes first, whatever its priority.
pub const SCAN_OLDEST_EVERY: u64 = 8;
/// Seconds for which a verdict counts for other files of the same bytes.
pub const SCAN_VERDICT_TTL_S: u64 = 24 * 3600;
/// Seconds for which outcomes, alerts and names of files are kept.
pub const SCAN_RESULTS_AGE_S: u64 = 30 * 86_400;
/// Outcomes, alerts, verdicts and names of files, of each so many: about 5 GiB on disk.
pub const SCAN_RESULTS_MAX: u64 = 1_000_000;
/// Seconds for which the audit of the API is kept.
pub const SCAN_AUDIT_AGE_S: u64 = 90 * 86_400;
/// Entries of the audit.
pub const SCAN_AUDIT_MAX: u64 = 1_000_000;
/// Seconds between two looks at what is too old.
pub const SCAN_RETENTION_EVERY_S: u64 = 3600;
/// Rows of one kind that are forgotten in one commit.
pub const SCAN_RETENTION_ROWS: usize = 256;
/// Operations in one commit of the task store.
pub const SCAN_COMMIT_OPERATIONS: usize = 1024;
/// Operations that may wait for the task store; one more is told so.
pub const SCAN_OPERATIONS_MAX: usize = 1 << 16;
/// Bytes of the task store's file that are kept in memory; redb's own default is 1 GiB.
pub const SCAN_STORE_CACHE_BYTES: usize = 16 << 20;
/// Bytes. A task store up to this size is checked whole at every start, a larger one only after a crash.
pub const SCAN_STORE_CHECK_BYTES: u64 = 256 << 20;
/// Resolved alerts of the monitor that are kept. Default of `history_max`.
pub const MONITOR_ALERTS_MAX: u64 = 1000;
/// Bytes that a rung of the ladder vouches for: the 4 KiB before its offset.
pub const RUNG_BYTES: usize = 4 << 10;
/// Rungs of one segment in the checkpoint: dense near the watermark, sparse to the start.
pub const RUNGS_MAX: usize = 48;
/// Bytes at the start of a file that its fingerprint covers.
pub const FINGERPRINT_BYTES: usize = 1024;
/// Jobs waiting for the store thread: refused messages of all batches in flight, each a pointer.
pub const STORE_JOBS: usize = 16 << 10;
/// Milliseconds between two tries of the store thread while the disk or the dead letter is full.
pub const STORE_RETRY_MS: u64 = 1000;
/// Bytes. A dead-letter segment; a new one is begun beyond it.
pub const DEAD_LETTER_SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes. Default of `dead_letter.max_bytes`.
pub const DEAD_LETTER_BYTES: u64 = 1 << 30;
/// Milliseconds. The slow look that is inotify's safety net.
pub const SAFETY_POLL_MS: u64 = 1000;
/// Milliseconds that the watch thread rests after each round of events, so that a writer of many
/// small writes costs no wake-up each; it adds as much to the delay from write to read.
pub const WATCH_FOLD_MS: u64 = 8;
/// The same while everybody looks again without being called.
pub const WATCH_SPARE_MS: u64 = 64;
/// A file that grew at two looks no further apart than this is looked at again without a hint.
pub const STEADY_MS: u64 = 24;
/// Milliseconds to the next look at such a file. A look has a price of its own, about 100 us of cold
/// caches: while it finds little, more is gathered for it.
pub const LOOK_REST_MS: u64 = 8;
/// The same where a look finds [`LOOK_WORTH_BYTES`] or more.
pub const LOOK_REST_BUSY_MS: u64 = 4;
/// Bytes that are worth a look.
pub const LOOK_WORTH_BYTES: u64 = 128 << 10;
/// Milliseconds of a sink's linger that pass between two looks, at most.
pub const GATHER_MS_MAX: u64 = 20;
/// While a file grows at every look, its name is compared with it only so often; at once where it did not grow.
pub const NAME_LOOK_MS: u64 = 64;
/// Milliseconds that a finished file is looked at once more before it is left.
pub const FINISHED_FILE_GRACE_MS: u64 = 1000;
/// Files that one pattern of source `file` follows at once: each holds a descriptor and is looked at
/// once a second.
pub const GLOB_FILES_MAX: usize = 256;
/// Folders of a tree of files: seventy days of a folder a minute.
pub const TREE_FOLDERS_MAX: usize = 100_000;
/// Files of a tree that are handed in as one batch.
pub const TREE_ENTRIES: usize = 1024;
/// Bytes that are read of one of several files before the next has its turn.
pub const TURN_BYTES: u64 = 4 << 20;
/// Milliseconds that a file without a name in the pattern is kept open for a writer that has not
/// noticed yet.
pub const VANISHED_FILE_GRACE_MS: u64 = 5000;
/// Milliseconds between two looks at the files of the tables.
pub const TABLES_LOOK_EVERY_MS: u64 = 1000;
/// Bytes of one file of bad addresses: some ten million lines.
pub const REPUTATION_FILE_BYTES: u64 = 256 << 20;
/// Bytes of one GeoIP database, which is held in memory; the largest that MaxMind sells has less.
pub const GEOIP_FILE_BYTES: u64 = 1 << 30;
/// Bytes of a file of suppressions, which people write by hand.
pub const SUPPRESSIONS_FILE_BYTES: u64 = 1 << 20;
/// Suppressions of one table: each is held against every alert, and has a figure.
pub const SUPPRESSIONS_MAX: usize = 1000;
/// Milliseconds between two tries of a sink that holds.
pub const HOLD_RETRY_MS: u64 = 30_000;
/// Bytes of parcels that sink `file` writes and syncs together.
pub const FILE_GROUP_BYTES: usize = 1 << 20;
/// Bytes. The least size at which a file of sink `file` rotates: below, archives would be more names than lines.
pub const ROTATE_BYTES_MIN: u64 = 4 << 10;
/// Milliseconds before a rotation that failed is tried again.
pub const ROTATE_RETRY_MS: u64 = 60_000;
/// Milliseconds between two looks at a file's archives when none was made: for their age, and for what failed.
pub const ARCHIVES_LOOK_MS: u64 = 600_000;
/// Bytes of an archive that are compressed at a time.
pub const COMPRESS_CHUNK_BYTES: usize = 256 << 10;
/// Bytes. A backlog beyond this is read cold (O_DIRECT), so that it does not push other files
/// out of the page cache.
pub const COLD_BACKLOG_BYTES: u64 = 256 << 20;
/// Cold reads in flight, each of one slab (measured: no worse than any other depth from 4 on).
pub const COLD_READS: usize = 8;
/// Bytes of one cold read of the `pread` engine, which has one in flight at a time, as `dd` has.
pub const COLD_BLOCK_BYTES: usize = 1 << 20;
/// Blocks that one executor holds or reads ahead for all its cold files together.
pub const COLD_BLOCKS_AHEAD: usize = 16;
/// Bytes that a `uring` executor pins for cold reads, three times over (once for each of its
/// rings): room for all blocks ahead.
pub const COLD_PINNED_BYTES: usize = COLD_BLOCKS_AHEAD * SLAB_BYTES;
/// Milliseconds that a `uring` shard waits for a block of a cold file before others have a turn.
pub const TURN_MS: u64 = 1;
/// Parcels on their way to a sink that is not required; the oldest goes first, counted. Such a sink
/// takes them out at once, so this is for the moments in which its thread is busy.
pub const OPTIONAL_INBOX_PARCELS: usize = 1024;
/// Messages waiting in a sink that is not required; the oldest goes first, counted.
pub const OPTIONAL_INBOX_MESSAGES: usize = 10_000;
/// Bytes of these messages.
pub const OPTIONAL_INBOX_BYTES: usize = 16 << 20;
/// Bytes that are read of a webhook's answer: its status says all, its words are for the log.
pub const WEBHOOK_ANSWER_BYTES: usize = 16 << 10;
/// Bytes of one request to InfluxDB at most, not compressed: below the 25 MB that 1.x takes by default.
pub const INFLUX_BATCH_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are read of InfluxDB's answer: of a refused line it repeats all before it says why.
pub const INFLUX_ANSWER_BYTES: usize = 64 << 10;
/// Messages of one pipeline to Redis.
pub const REDIS_BATCH_MESSAGES: usize = 500;
/// Bytes of their payloads.
pub const REDIS_BATCH_BYTES: usize = 1 << 20;
/// Alerts of one pipeline to Redis, each a script.
pub const REDIS_ALERTS_BATCH: usize = 256;
/// Milliseconds between two looks for what of an index of alerts is past its retention.
pub const REDIS_SWEEP_MS: u64 = 60_000;
/// Entities whose alerts are counted in Redis; beyond, the least frequent go.
pub const REDIS_ENTITIES: usize = 10_000;
/// Milliseconds to connect to a Redis: it is near, or something is wrong.
pub const REDIS_CONNECT_MS: u64 = 2000;
/// Milliseconds of failing after which a sink `redis` puts messages by, where it may.
pub const REDIS_AWAY_MS: u64 = 2000;
/// Bytes of an alert's id.
pub const ALERT_ID_BYTES: usize = 64;
/// Bytes of an entity's name.
pub const ENTITY_BYTES: usize = 256;
/// Alerts that are kept in memory for the HTTP face.
pub const RECENT_ALERTS: usize = 1000;
/// Bytes of these.
pub const RECENT_BYTES: usize = 16 << 20;
/// Alerts of one page of the HTTP face.
pub const ALERTS_PAGE: usize = 1000;
/// Bytes of the alerts of one page; the next page begins behind what there was room for.
pub const ALERTS_PAGE_BYTES: usize = 4 << 20;
/// Alerts that are looked at for one page; the next one goes on behind them.
pub const ALERTS_LOOKED_AT: usize = 10_000;
/// Milliseconds that the HTTP face waits for a detector's answer, which comes with the next event.
pub const QUESTION_MS: u64 = 1500;
/// Milliseconds that `Retry-After` can make us wait.
pub const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
/// Milliseconds. The longest wait between two tries to connect to Wazuh's queue.
pub const WAZUH_BACKOFF_MS_MAX: u64 = 30_000;
/// Changes of standing that wait to become events of our own; the oldest goes first, counted.
pub const NEWS_MAX: usize = 1024;
/// Milliseconds between two events of our own about the same thing.
pub const OWN_EVENT_EVERY_MS: u64 = 60_000;
/// Milliseconds that a component's trouble must last to be told.
pub const OWN_EVENT_AFTER_MS: u64 = 1000;
/// Milliseconds after which it is told once more that a trouble lasts.
pub const OWN_EVENT_LASTING_MS: u64 = 60_000;
/// Milliseconds in which what happens to components is gathered before it is looked at again.
pub const OWN_EVENT_FOLD_MS: u64 = 250;
/// Depth of JSON that the parser accepts.
pub const JSON_DEPTH_MAX: usize = 1024;
/// Tables and lists inside each other in a config file; the TOML crate stops at 80 by itself.
pub const CONFIG_DEPTH_MAX: usize = 80;
/// Bytes of a config file; a longer one is some other file.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Bytes. One datagram of the Wazuh queue; the manager cuts at 65,536.
pub const WAZUH_RECORD_BYTES: usize = 65_535;
/// Connections to the HTTP face at a time; one more waits in the kernel's queue.
pub const API_CONNECTIONS_MAX: usize = 16;
/// Milliseconds for one request and its answer; a connection ends with it.
pub const API_REQUEST_MS: u64 = 10_000;
/// Bytes of one request: a line and headers, no body is ever read.
pub const API_REQUEST_BYTES_MAX: usize = 16 << 10;
/// The same where scanning is served: workers wait for tasks, each on a connection of its own.
pub const API_SCAN_CONNECTIONS_MAX: usize = 512;
/// Of these, connections from one address.
pub const API_CONNECTIONS_PER_ADDRESS: usize = 128;
/// Milliseconds within which the body of a request must have come.
pub const API_BODY_MS: u64 = 30_000;
/// Milliseconds for an answer that waits for scans, behind the body.
pub const API_ANSWER_MS: u64 = 90_000;
/// Bytes of a body of JSON.
pub const API_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a result that a worker brings: an archive may have hundreds of members that match.
pub const API_RESULT_BYTES_MAX: usize = 16 << 20;
/// Depth of a body of JSON.
pub const API_JSON_DEPTH_MAX: usize = 32;
/// Callers whose requests are counted apart, by key or address.
pub const API_CALLERS_MAX: usize = 4096;
/// Keys of a keys file.
pub const API_KEYS_MAX: usize = 10_000;
/// Files whose bytes are on their way to workers at a time; each is in memory.
pub const API_FILES_MAX: usize = 8;
/// Seconds between two looks for uploads that are done with, while uploads come.
pub const API_UPLOADS_SWEEP_S: u64 = 3600;
/// Seconds that a request to scan waits for its files.
pub const API_SCAN_WAIT_S: u64 = 60;
/// Files of one request to scan a folder.
pub const API_SCAN_FILES_MAX: usize = 1000;
/// Metrics that a monitor tells apart by name.
pub const MONITOR_METRICS_MAX: usize = 256;
/// Newest values kept of each.
pub const MONITOR_POINTS_MAX: usize = 1000;
/// Rules of a monitor; each is held against its metric at every check.
pub const MONITOR_RULES_MAX: usize = 100;
/// Days before a certificate ends from which the log says so, once a day: time enough to ask for another.
pub const CERTIFICATE_WARN_DAYS: u32 = 30;
/// Bytes of one value that MISP can hold (its columns are of type `text`); a longer one is not asked.
pub const MISP_VALUE_BYTES_MAX: usize = 65_535;
/// Parents of one name that are asked for: a name has 127 labels at most, an attacker's has them all.
pub const MISP_PARENTS_MAX: usize = 8;
/// Bytes of the values of one request to MISP.
pub const MISP_BATCH_BYTES: usize = 1 << 20;
/// Bytes of one answer of MISP; a page of thousands of attributes with their tags has some.
pub const MISP_ANSWER_BYTES: usize = 64 << 20;
/// Rows of one page of a synchronisation, at least: a million attributes are then two hundred calls.
pub const MISP_SYNC_PAGE_ROWS: u32 = 5_000;
/// Tries after the first for one page of a synchronisation, each after twice the wait of the one before.
pub const MISP_SYNC_TRIES: u32 = 4;
/// Milliseconds of that wait, half of the first.
pub const MISP_SYNC_WAIT_MS: u64 = 250;
/// Seconds before the last synchronisation from which on changes are fetched: clocks differ, and what
/// MISP writes is seen a while later.
pub const MISP_SYNC_OVERLAP_SECONDS: u64 = 900;
/// Milliseconds without an answer of MISP, while searches are out, after which messages are put by: well
/// past a slow search, and long before a search of the default timeout fails.
pub const MISP_SILENCE_MS: u64 = 10_000;
/// Milliseconds after which a lookup with open messages looks whether they have to be put by.
pub const LOOKUP_LOOK_MS: u64 = 500;
/// Bytes of a spool at least: room for some of the longest records.
pub const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// Milliseconds between two looks at what of a spool is worked off, while there is something in it.
pub const SPOOL_LOOK_MS: u64 = 1000;
/// Milliseconds without any answer after which a drain does not wait for what a spool keeps anyway.
pub const KEPT_REST_MS: u64 = 1000;
/// Pages of one search or synchronisation: past this, MISP repeats itself.
pub const MISP_PAGES_MAX: u32 = 100_000;

/// Milliseconds that a source has at the end of a drain to tell its other side what was settled.
pub const LAST_WORDS_MS: u64 = 2000;
/// Batches of a source on their way from the edge thread to their home: one being taken, one ready.
pub const BROUGHT_BATCHES: usize = 2;
/// Bytes of entries that are handed in as one batch; a longer entry is one alone.
pub const ENTRIES_BYTES: usize = 1 << 20;
/// Documents that a source `opensearch` remembers so as to pass them over: 5 minutes of 3,300 a second, some 40 MiB.
pub const OPENSEARCH_SEEN_MAX: usize = 1_000_000;
/// Bytes of one answer of OpenSearch; a page of a thousand documents has some.
pub const OPENSEARCH_ANSWER_BYTES: usize = 32 << 20;
/// Agents of Wazuh that a source `wazuh_agents` knows: more than a cluster has, some 30 MiB.
pub const WAZUH_AGENTS_MAX: usize = 100_000;
/// Bytes of one answer of a Wazuh server; a page of 500 agents has some 200 KiB.
pub const WAZUH_ANSWER_BYTES: usize = 8 << 20;
/// Ids in one command to Redis: short enough that nobody else waits long for it.
pub const REDIS_IDS_MAX: usize = 1000;

const _: () = assert!(ENTRIES_BYTES <= FRAME_BYTES_MAX, "an entry of the greatest length fits a batch alone");
const _: () = assert!(MISP_VALUE_BYTES_MAX < MISP_BATCH_BYTES, "any value fits a request alone");
const _: () = assert!(SLAB_BYTES.is_power_of_two());
const _: () = assert!(COLD_READS <= COLD_BLOCKS_AHEAD, "one file alone may have all its reads in flight");
const _: () = assert!(COLD_BLOCK_BYTES.is_power_of_two(), "cold reads are aligned by their own size");
const _: () = assert!(RUNG_BYTES <= SLAB_BYTES, "a rung is computed from one slab and its head-room");
const _: () = assert!(CREDIT_BYTES >= 2 * FRAME_BYTES_MAX as u64, "two of the longest frames must fit");
const _: () = assert!(GLOB_FILES_MAX <= STREAMS_PER_SHARD, "a home has room for every file of a pattern");
const _: () = assert!(CREDIT_BATCHES >= 2, "reading and sending must overlap");
const _: () = assert!((CREDIT_BYTES as usize) / SLAB_BYTES <= SLABS_PER_SHARD, "credits never outrun the pool");
/// Slabs given to another shard and not yet handled there: one in work, one waiting, so that it never
/// idles between two, and a home that catches up has little out.
pub const ERRANDS: usize = 2;
/// Bytes. A source that is behind by this much gives slabs to other shards.
pub const ERRAND_LAG_BYTES: u64 = 4 * SLAB_BYTES as u64;
/// Indicators of one alert. Default of `max_iocs` of handler `ioc`; a list of blocked URLs has some hundred.
pub const IOCS_PER_ALERT: usize = 1000;
/// Indicators of one alert that may be asked for: each is put among those before it.
pub const IOCS_PER_ALERT_MAX: usize = 10_000;
/// Bytes of text of one alert in which indicators are looked for. Default of `max_bytes` of handler `ioc`:
/// all of the longest frame.
pub const IOC_TEXT_BYTES: usize = FRAME_BYTES_MAX;
/// Bytes of the way to an indicator's member, as it is written beside each of them.
pub const IOC_FIELD_BYTES: usize = 256;
/// Messages of one event of a WAF; a rule that matches every argument has some hundred.
pub const WAF_MESSAGES_MAX: usize = 2_000;
/// Brackets inside each other in an event of a WAF: the deepest that an engine writes is six.
pub const WAF_DEPTH_MAX: usize = 32;
/// Bytes of a tag of a point, and of other short texts: InfluxDB refuses points whose tags come to 64 KiB.
pub const WAF_TAG_BYTES_MAX: usize = 1024;
/// Bytes of a URI in a point or an alert.
pub const WAF_URI_BYTES_MAX: usize = 2048;
/// Entities that a stage `detector` knows at most: about 1.5 KiB each.
pub const DETECT_ENTITIES_MAX: usize = 1 << 18;
/// Kinds of events of one entity that are counted exactly; beyond, in a sketch.
pub const DETECT_KINDS_MAX: usize = 512;
/// Kinds of events that are counted exactly over all entities.
pub const DETECT_ALL_KINDS_MAX: usize = 1 << 16;
/// Pairs of entity and kind that are counted exactly: 16 bytes each.
pub const DETECT_PAIRS_MAX: usize = 4 << 20;
/// Windows of one entity that are open at once; one more closes the oldest of them.
pub const DETECT_OPEN_MAX: usize = 3;
/// Bytes of the name of an entity, and of the other names in an event of APT detection; a longer one is kept as a hash.
pub const ENTITY_BYTES_MAX: usize = 256;
/// Bytes of an alert of APT detection; what would make it longer is left out, the list of origins first.
pub const ALERT_BYTES_MAX: usize = 64 << 10;
/// Origins that an alert names.
pub const ALERT_EVIDENCE_MAX: usize = 16;
/// Techniques that an alert names.
pub const ALERT_TECHNIQUES_MAX: usize = 64;
/// Bytes of a record of APT detection.
pub const APT_RECORD_BYTES_MAX: usize = 1 << 20;
/// Brackets inside each other in a record of APT detection.
pub const APT_DEPTH_MAX: usize = 64;
/// Models of an agent: each is asked for every event or window.
pub const MODELS_MAX: usize = 8;
/// Bytes of a model's file; a hundred trees have half a MiB, and a network of this size answers in no budget.
pub const MODEL_FILE_BYTES: u64 = 64 << 20;
/// Inputs of a model: each of the names there are, twice.
pub const MODEL_INPUTS_MAX: usize = 64;
/// Leaves of one tree: a child is kept in 16 bits with its sign.
pub const MODEL_LEAVES_MAX: usize = 32_767;
/// Trees of a model in LightGBM's form; more would be past any budget.
pub const MODEL_TREES_MAX: usize = 100_000;
/// Trees of an ensemble inside an ONNX model: tract needs ten microseconds for each, LightGBM's own form 40 nanoseconds.
pub const ONNX_TREES_MAX: usize = 32;
/// Numbers that an ONNX model may answer with.
pub const ONNX_OUTPUTS_MAX: usize = 4096;
/// Rules of one Sigma table: six times what SigmaHQ publishes.
pub const SIGMA_RULES_MAX: usize = 20_000;
/// Bytes of one file of Sigma rules.
pub const SIGMA_FILE_BYTES: u64 = 4 << 20;
/// Bytes of all files of a Sigma table: SigmaHQ's have eight MiB.
pub const SIGMA_BYTES: u64 = 128 << 20;
/// Folders inside each other below the folder of a Sigma table.
pub const SIGMA_FOLDERS_MAX: usize = 12;
/// Fields of one event that Sigma rules can ask for.
pub const SIGMA_FIELDS_MAX: usize = 4096;
/// Objects inside each other whose members are fields; what is deeper is one text.
pub const SIGMA_NESTED_MAX: usize = 16;
/// Rules that one event sets off and that are told; the gravest first.
pub const SIGMA_MATCHES_MAX: usize = 32;
/// Bytes of the path of a file that is scanned: what Linux takes.
pub const SCAN_PATH_BYTES_MAX: usize = 4096;
/// Names of any kind that are looked at for one request to scan a folder.
pub const SCAN_WALK_ENTRIES_MAX: usize = 100_000;
/// Milliseconds between two listings of the folders that are watched for files to scan.
pub const SCAN_LIST_EVERY_MS: u64 = 30_000;
/// Of so many listings one looks at every file again, also at those that were handed on: a remote disk has no events.
pub const SCAN_LIST_WHOLE_EVERY: u64 = 20;
/// Milliseconds in which more of what happens in these folders is gathered: a tick of a kernel's clock at its slowest, so
/// that a file written once more has another time.
pub const SCAN_FOLD_MS: u64 = 10;
/// Folders that are watched for files to scan.
pub const SCAN_FOLDERS_MAX: usize = 10_000;
/// Files that the watch hands on together: one group commit.
pub const SCAN_FOUND_BATCH: usize = 256;
/// Names told by Zeek's log that are remembered until a listing has seen their files.
pub const SCAN_NAMED_MAX: usize = 10_000;
/// Bytes of one file of YARA rules.
pub const RULE_FILE_BYTES: u64 = 4 << 20;
/// Bytes of all YARA files below one path.
pub const RULE_FOLDER_BYTES: u64 = 64 << 20;
/// Files below one path of rules, whatever they hold.
pub const RULE_FILES_MAX: usize = 50_000;
/// Folders inside each other below a path of rules, and rule files that include each other.
pub const RULE_DEPTH_MAX: usize = 16;
/// Bytes of all YARA text that is compiled, files that are included counted each time.
pub const RULE_TEXT_BYTES: usize = 256 << 20;
/// Bytes of compiled rules: 5,900 rules have 7 MB.
pub const RULE_COMPILED_BYTES: u64 = 512 << 20;
/// Seconds that compiling may take: 13,000 rules take 3.
pub const RULE_COMPILE_S: u64 = 300;
/// Bytes of the stack on which rules are compiled; of these only what is used takes memory.
pub const COMPILE_STACK_BYTES: usize = 128 << 20;
/// Problems of rules that are listed; the rest is counted.
pub const RULE_ERRORS_MAX: usize = 1000;
/// Places of matches that one outcome tells, those of all members together; beyond, matches are told without them.
pub const SCAN_PLACES_MAX: usize = 50_000;
/// Bytes that a member may have whatever its ratio is: text of one letter is no bomb.
pub const UNPACK_RATIO_FREE_BYTES: u64 = 1 << 20;
/// Bytes of a member's name that are kept.
pub const UNPACK_NAME_BYTES: usize = 1024;
/// Files after which a scan child is replaced by a fresh one.
pub const CHILD_FILES_MAX: u32 = 5000;
/// Files that a scan child has at once: the one it is at, and those that wait behind it.
pub const CHILD_FILES_AT_ONCE: usize = 12;
/// Bytes of messages that a scan child has not answered, beyond which it is given no more: far less than its socket holds.
pub const CHILD_ASKED_BYTES: usize = 32 << 10;
/// Milliseconds after which a file is slow, and what waits behind it is given to other children.
pub const CHILD_SLOW_MS: u64 = 100;
/// Seconds beyond its own deadline after which a scan child is killed.
pub const CHILD_GRACE_S: u64 = 5;
/// Seconds within which a scan child must have read its rules.
pub const CHILD_LOAD_S: u64 = 120;
/// Bytes of one message between agent and scan child.
pub const CHILD_FRAME_BYTES: usize = 32 << 20;
/// Bytes of address space that a scan child may take beyond those of its start: some 400 MB with 600 rules.
pub const CHILD_MEMORY_BYTES: u64 = 1 << 30;
/// Bytes of a log of Zeek or Suricata that are read when it is opened first: some minutes of a busy one.
pub const SCAN_LOG_START_BYTES: u64 = 16 << 20;
/// Bytes of one line of such a log; an event with a whole packet and its payload has less.
pub const SCAN_LOG_LINE_BYTES: usize = 1 << 20;
/// Milliseconds that a row of Zeek's log of files is remembered.
pub const SCAN_ZEEK_ROW_MS: u64 = 600_000;
/// Milliseconds that an alert waits for the row of its file.
pub const SCAN_ZEEK_WAIT_MS: u64 = 10_000;
/// Rows of Zeek's log of files that are remembered: 300 files a second for as long as one is.
pub const SCAN_ZEEK_ROWS_MAX: usize = 200_000;
/// Tasks that went without their row and are remembered for one that comes late.
pub const SCAN_ZEEK_LATE_MAX: usize = 10_000;
/// Events of Suricata that are remembered.
pub const SCAN_EVE_EVENTS_MAX: usize = 100_000;
/// Removals of scanned files whose audit is stored together.
pub const SCAN_CLEANUP_BATCH: usize = 64;
/// Errors that one round of removals tells; the rest is counted with what is kept.
pub const SCAN_CLEANUP_ERRORS: usize = 100;
