-- Reads and writes counters as records; numbers.lua describes their format.

-- The time for which an expired hold is kept: it takes no room any more, but its hits can
-- still be counted.
local HOLD_MEMORY = 50000000
-- The clock by which holds expire is that of the server, as the clocks of instances may differ
-- by more than the duration of a call. Where TIME is not permitted, it is that of the call.
local server_time
local function clock()
  if server_time == nil then
    local time = redis.pcall('TIME')
    server_time = time[1] and time[1] * 1000000 + time[2] or false
  end
  return server_time or now
end

-- Records by key: as they are in Redis, as earlier calls of this script run leave them, and as
-- the current call leaves them.
local stored, finished, current = {}, {}, {}

-- The number of bytes of a binary state; 0 for any other value.
local function binary_length(value)
  if string.byte(value) ~= 35 then
    return 0
  end
  return 5 <= #value and struct.unpack('>I4', value, 2) + 1 or #value + 1
end

local function parse_record(value)
  local binary = binary_length(value)
  if #value < binary then
    return { state = '', banned_since = 0, holds = {} }
  end
  local at = string.find(value, '[!&]', binary + 1)
  if not at then
    return { state = value, banned_since = 0, holds = {} }
  end
  local record = { state = string.sub(value, 1, at - 1), banned_since = 0, holds = {} }
  local rest = string.sub(value, at)
  local ban = string.match(rest, '^!(%d+)')
  local length = ban and #ban + 1 or 0
  record.banned_since = tonumber(ban or 0)
  local valid = record.banned_since <= MAX_NUMBER
  for id, hits, expires_at in string.gmatch(string.sub(rest, length + 1), '&(%d+):(%d+):(%d+)') do
    length = length + #id + #hits + #expires_at + 3
    local hold = { id = tonumber(id), hits = tonumber(hits), expires_at = tonumber(expires_at) }
    valid = valid and 0 < hold.id and hold.id <= MAX_NUMBER and hold.hits <= MAX_NUMBER
      and hold.expires_at <= MAX_NUMBER
    table.insert(record.holds, hold)
  end
  if not valid or length ~= #rest then
    record.banned_since, record.holds = 0, {}
  end
  return record
end

-- The record under `key`, as the current call sees it.
local function read_record(key)
  local record = current[key] or finished[key]
  if record then
    return record
  end
  if not stored[key] then
    local value = redis.pcall('GET', key)
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
      -- The value cannot be read: the same error ends the script.
      value = redis.call('GET', key)
    end
    stored[key] = parse_record(type(value) == 'string' and value or '')
  end
  return stored[key]
end

-- The remaining time to live of `key` in milliseconds, as the current call sees it.
local function remaining_ttl(key)
  local record = current[key] or finished[key]
  return record and record.ttl or redis.call('PTTL', key)
end

-- Writes the record of a charge's counter. `life` is that of the state, nil if the state does
-- not change. The expiry is put off by `charge.jitter` milliseconds if it has to be set.
local function write_record(charge, state, banned_since, holds, life)
  local record = { state = state, banned_since = banned_since, holds = {} }
  local ttl = life and ttl_for(life) or 0
  local ban_end = banned_since + charge.penalty
  if 0 < banned_since and now < ban_end then
    ttl = math.max(ttl, ttl_for(math.min(ban_end - now, charge.penalty)))
  elseif life then
    -- The ban has ended.
    record.banned_since = 0
  end
  for _, hold in ipairs(holds) do
    local kept_for = hold.expires_at + HOLD_MEMORY - clock()
    if 0 < kept_for then
      table.insert(record.holds, hold)
      ttl = math.max(ttl, ttl_for(kept_for))
    end
  end
  local rest = 0
  if not life or charge.kind.shares or 0 < #holds or 0 < banned_since then
    -- A part of the record does not change, or rules with windows of different lengths share
    -- the key: the expiry must not come earlier.
    rest = remaining_ttl(charge.key)
  end
  record.ttl = rest < ttl and ttl + charge.jitter or rest
  if record.ttl <= 0 then
    record.ttl = expiry_slack
  end
  current[charge.key] = record
end

local function record_text(record)
  local state = record.state
  if type(state) == 'table' then
    state = state:text()
  end
  if record.banned_since <= 0 and #record.holds == 0 then
    return state
  end
  local texts = { state }
  if 0 < record.banned_since then
    table.insert(texts, '!' .. text(record.banned_since))
  end
  for _, hold in ipairs(record.holds) do
    table.insert(texts, '&' .. text(hold.id) .. ':' .. text(hold.hits) .. ':' .. text(hold.expires_at))
  end
  return table.concat(texts)
end

-- Ends the current call: later calls see its records.
local function finish_call()
  for key, record in pairs(current) do
    finished[key] = record
  end
  current = {}
end

-- Sends the records of all calls to Redis.
local function store_records()
  for key, record in pairs(finished) do
    local value = record_text(record)
    if value == '' then
      redis.call('DEL', key)
    else
      redis.call('SET', key, value, 'PX', text(record.ttl))
    end
  end
end

