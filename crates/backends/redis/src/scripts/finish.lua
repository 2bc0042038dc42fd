-- Ends the transaction that added a producer's batch: takes the entries out again when the batch is a retry.
-- KEYS: stream, producer, state. ARGV: number, entries, batches remembered, milliseconds remembered.
local stream, producer, state = KEYS[1], KEYS[2], KEYS[3]
local number, count = ARGV[1], tonumber(ARGV[2])

-- Which of two ids is the later one. An index after a dot does not matter.
local function later(a, b)
  if not b then return a end
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)')
  a_ms, a_seq, b_ms, b_seq = tonumber(a_ms), tonumber(a_seq), tonumber(b_ms), tonumber(b_seq)
  if a_ms > b_ms or a_ms == b_ms and a_seq > b_seq then return a end
  return b
end

-- Nobody has seen the entries. They are counted, so that they are not taken for lost, and the end that the stream had
-- before them is noted, because Redis goes on after them.
local function withdraw(known_last)
  local hidden
  for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', count)) do
    hidden = hidden or entry[1]
    redis.call('XDEL', stream, entry[1])
  end
  local added = 0
  local info = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then added = info[at + 1] end
  end
  if redis.call('TYPE', state).ok ~= 'hash' or tonumber(redis.call('HGET', state, 'added') or 0) > added then
    redis.call('DEL', state)
  end
  local left = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local noted = redis.call('HMGET', state, 'end', 'trimmed')
  local last = later(later(left and left[1] or '0-0', noted[1]), noted[2])
  last = string.match(later(last, known_last), '^%d+-%d+')
  redis.call('HINCRBY', state, 'withdrawn', count)
  redis.call('HSET', state, 'added', added, 'hidden', hidden, 'end', last)
end

-- The id of the first of the last `count` entries. Ids that Redis gives are consecutive within a millisecond and start
-- anew with 0 in the next, so looking at the last entry of each millisecond is enough.
local function first_of(last)
  local left, at = count, last
  while true do
    local ms, seq = string.match(at, '^(%d+)-(%d+)$')
    if #seq > 15 then
      local entries = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', count)
      return entries[#entries][1]
    end
    seq = tonumber(seq)
    if seq >= left - 1 then return ms .. '-' .. string.format('%.0f', seq - left + 1) end
    left = left - seq - 1
    at = redis.call('XREVRANGE', stream, '(' .. ms .. '-0', '-', 'COUNT', 1)[1][1]
  end
end

local found, smallest, old = recall(producer, number)
if found or old then
  withdraw(found and string.match(found, '(%S+)$'))
  if old then return { 'old', smallest } end
  redis.call('PEXPIRE', producer, ARGV[4])
  return known(stream, found)
end
local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1]
remember(producer, number, first_of(last), last)
return { 'stored' }
