-- Appends a batch, leaving out the events whose source and id were stored within the window.
-- KEYS: stream, producer or nothing. ARGV: number or nothing, (unused), batches remembered, milliseconds remembered, prefix of the
-- keys of events, window in milliseconds, then for each event: count of arguments, source, id, and the arguments.
local stream, producer = KEYS[1], KEYS[2]
local number, prefix, window = ARGV[1], ARGV[5], ARGV[6]

local function key_of(source, id)
  return prefix .. redis.sha1hex(#source .. ':' .. source .. id)
end

local function each(visit)
  local at = 7
  while at <= #ARGV do
    local count = tonumber(ARGV[at])
    visit(ARGV[at + 1], ARGV[at + 2], at + 3, at + 2 + count)
    at = at + 3 + count
  end
end

if producer then
  local found, smallest, old = recall(producer, number)
  if old then return { 'old', smallest } end
  if found then
    redis.call('PEXPIRE', producer, ARGV[4])
    local first = string.match(found, '^%d+ (%S+)')
    local reply = { 'known', first }
    each(function(source, id)
      reply[#reply + 1] = redis.call('GET', key_of(source, id)) or first
    end)
    return reply
  end
end

-- An id is given with `=` before it when it is that of an event which was there already.
local reply = { 'stored' }
local first, last
each(function(source, id, from, to)
  local key = id ~= '' and key_of(source, id)
  local there = key and redis.call('GET', key)
  if there then
    reply[#reply + 1] = '=' .. there
  else
    there = redis.call('XADD', stream, '*', unpack(ARGV, from, to))
    if key then redis.call('SET', key, there, 'PX', window) end
    reply[#reply + 1] = there
    first, last = first or there, there
  end
end)
if producer then
  local any = string.gsub(reply[2], '^=', '')
  remember(producer, number, first or any, last or any)
end
return reply
