-- Renames columns and tables to the words that the code, the API and the documentation use. Nothing was
-- released under the old names, so no release has to run on both.

-- Attempts since the last redelivery; `attempts` counts all of them.
alter table deliveries rename column tries to round_attempts;
-- When a user last asked for a redelivery: the age of the delivery counts from then.
alter table deliveries rename column asked_at to redelivered_at;
