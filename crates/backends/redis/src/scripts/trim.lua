-- Removes the oldest entries, and notes the last event of them. Replies the number of entries.
-- KEYS: stream, state. ARGV: last entry to remove or nothing, entries to keep or nothing, bytes to keep or nothing, position
-- of the last event that is gone or nothing. A position within an entry that stays hides the entry's first events.
local stream, state = KEYS[1], KEYS[2]
if redis.call('EXISTS', stream) == 0 then return 0 end
local before = redis.call('XLEN', stream)
local removed, trimmed = 0, nil

local keep = before
if ARGV[2] ~= '' then keep = math.min(keep, tonumber(ARGV[2])) end
if ARGV[3] ~= '' then
  local bytes = redis.call('MEMORY', 'USAGE', stream)
  if bytes > tonumber(ARGV[3]) then keep = math.min(keep, math.floor(before * tonumber(ARGV[3]) / bytes)) end
end
if keep < before then
  -- The last entry to go is looked at before it goes.
  removed = redis.call('XTRIM', stream, 'MAXLEN', '=', keep + 1)
  trimmed = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
  removed = removed + redis.call('XTRIM', stream, 'MAXLEN', '=', keep)
end
if ARGV[1] ~= '' then
  local last = redis.call('XREVRANGE', stream, ARGV[1], '-', 'COUNT', 1)[1]
  if last then
    trimmed = last[1]
    removed = removed + redis.call('XTRIM', stream, 'MINID', '=', trimmed) + redis.call('XDEL', stream, trimmed)
  end
end
if ARGV[4] ~= '' then trimmed = ARGV[4] end
if not trimmed then return 0 end

local added = 0
local info = redis.call('XINFO', 'STREAM', stream)
for at = 1, #info, 2 do
  if info[at] == 'entries-added' then added = info[at + 1] end
end
if redis.call('TYPE', state).ok ~= 'hash' or tonumber(redis.call('HGET', state, 'added') or 0) > added then
  redis.call('DEL', state)
end
redis.call('HSET', state, 'trimmed', trimmed, 'added', added)
redis.call('HINCRBY', state, 'trimmed_count', removed)
return removed
