-- The servers of one embedded Postgres: each worker is one. While `held` is true, the server remembers answers to pulls, because nobody
-- else changes them (src/db/content-lease.ts).
create table remembered_answers (
  server uuid primary key,
  held boolean not null
);

-- A change by anybody else waits until the servers have forgotten the answers. New rows change none, because only found content
-- is remembered. The keys are "rook", "serv" and "leas" in ASCII.
create function wait_for_remembered_answers() returns trigger language plpgsql as $$
declare
  own constant text := nullif(current_setting('rookery.server', true), '');
begin
  -- Until the end of this transaction, no server begins to remember.
  perform pg_advisory_xact_lock_shared(1919905643, 1936028278);
  if current_setting('transaction_isolation') <> 'read committed' then
    -- Its snapshot may be older than the rows.
    perform pg_advisory_xact_lock_shared(1919905643, 1818583411);
    perform pg_sleep(0.2);
  elsif exists (select from remembered_answers where held and server::text is distinct from own) then
    -- From here on, no server can remember for longer, and it forgets within this time.
    perform pg_advisory_xact_lock_shared(1919905643, 1818583411);
    perform pg_sleep(0.2);
    update remembered_answers
       set held = false
     where server in (
       select server
         from remembered_answers
        where held
          and server::text is distinct from own
          for update skip locked
     );
  end if;
  return null;
end
$$;

create trigger repositories_wait_for_answers
  after update of name, visibility or delete or truncate on repositories
  execute function wait_for_remembered_answers();
create trigger tags_wait_for_answers
  after update of repository_id, name, digest or delete or truncate on tags
  execute function wait_for_remembered_answers();
create trigger manifests_wait_for_answers
  after update of repository_id, digest, media_type, bytes or delete or truncate on manifests
  execute function wait_for_remembered_answers();
create trigger blobs_wait_for_answers
  after update of digest, size, storage_key, lost_at or delete or truncate on blobs
  execute function wait_for_remembered_answers();
create trigger repository_blobs_wait_for_answers
  after update or delete or truncate on repository_blobs
  execute function wait_for_remembered_answers();

-- Also when rows are written as by replication.
alter table repositories enable always trigger repositories_wait_for_answers;
alter table tags enable always trigger tags_wait_for_answers;
alter table manifests enable always trigger manifests_wait_for_answers;
alter table blobs enable always trigger blobs_wait_for_answers;
alter table repository_blobs enable always trigger repository_blobs_wait_for_answers;
