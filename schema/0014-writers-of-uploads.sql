-- The key of the advisory lock that the writer's process holds while it runs; null: the process had none. A lock that
-- nobody holds shows at once that the writer is gone.
alter table uploads add column writer integer;
-- One request started this upload and no other one can continue it, so it ends with its writer.
alter table uploads add column single_request boolean not null default false;
