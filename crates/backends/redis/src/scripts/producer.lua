-- What a stream remembers of a producer, shared by the scripts that append.
-- A sorted set in order of number, of `<number, 20 digits> <first id> <last id>`. Numbers are compared as texts, because
-- they are wider than Lua's numbers.

-- The smallest number that is remembered, and what is remembered of this one.
local function recall(key, number)
  local latest = redis.pcall('ZRANGE', key, -1, -1)
  if latest.err then
    -- Somebody else's value is in the way.
    redis.call('DEL', key)
    return nil, nil, false
  end
  if not latest[1] or number > string.sub(latest[1], 1, 20) then return nil, nil, false end
  local found = redis.call('ZRANGEBYLEX', key, '[' .. number, '[' .. number .. '\255', 'LIMIT', 0, 1)[1]
  local smallest = string.sub(redis.call('ZRANGE', key, 0, 0)[1], 1, 20)
  local full = redis.call('ZCARD', key) >= tonumber(ARGV[3])
  return found, smallest, full and number < smallest
end

local function remember(key, number, first, last)
  redis.call('ZADD', key, 0, number .. ' ' .. first .. ' ' .. last)
  redis.call('ZREMRANGEBYRANK', key, 0, -tonumber(ARGV[3]) - 1)
  redis.call('PEXPIRE', key, ARGV[4])
end

-- The reply for a batch that is known: the first time's ids, of those entries that are still there.
local function known(stream, found)
  local first, last = string.match(found, '^%d+ (%S+) (%S+)$')
  local reply = { 'known', first }
  for _, entry in ipairs(redis.call('XRANGE', stream, first, last)) do
    reply[#reply + 1] = entry[1]
  end
  return reply
end
