-- Leases are kept in a ring, so that a decision reads and writes only the places that change:
-- `#`, a header, and places of equal size. The header holds: the length of all of that in
-- bytes, the kind of the places, the place of the oldest lease, the number of leases, the
-- moment from which theirs count, the number of hits before the oldest lease, the number of
-- hits, and the moments of the oldest and the latest lease. A place holds the moment of its
-- lease, and the running total of hits including it, so that expired leases are found by a
-- binary search.
--
-- Moments and totals are modulo `reach` and `wrap`: 2^48 and 2^16, or 2^53 both in the few
-- lists that are longer, or have more hits.
local HEADER, HEADER_SIZE = '>I4BI4I4I7I7I7I7I7', 48
local NARROW = { number = 1, size = 8, format = '>I6I2', reach = 281474976710656, wrap = 65536 }
local WIDE = { number = 2, size = 14, format = '>I7I7', reach = MOST + 1, wrap = MOST + 1 }
local KINDS = { NARROW, WIDE }
-- Places per read; partial reads before the whole list is read; places written one by one
-- before the whole list is written.
local CHUNK, FEW, MANY = 4, 4, 8

-- A list in this script. It is immutable; changes make a copy. Its first `body` leases are
-- `stored` in Redis from the place `skip` on; the `more` that follow are in `tail`, an array
-- that copies share and may extend.
local EMPTY = { count = 0, held = 0, first = 0, last = 0 }

local function copy(list)
  return {
    kind = list.kind, base = list.base, start = list.start, stored = list.stored, room = list.room,
    skip = list.skip, body = list.body, tail = list.tail, more = list.more, count = list.count,
    held = list.held, first = list.first, last = list.last, write = list.write, put = list.put,
  }
end

-- a + b modulo `wrap`, which both are less than.
local function wrapped(a, b, wrap)
  local room = wrap - b
  return a < room and a + b or a - room
end

-- Reads the whole list.
local function whole(list)
  local stored = list.stored
  stored.text = stored.text or redis.call('GET', stored.key)
  return stored.text
end

-- The bytes of a stored place: a string, and the position at which they begin in it.
local function stored_at(list, place)
  local stored, size = list.stored, list.kind.size
  if stored.text then
    return stored.text, stored.offset + place * size + 1
  end
  local at = place % CHUNK
  local first = place - at
  if not stored[first] and stored.reads < FEW then
    local from = stored.offset + first * size
    stored.reads = stored.reads + 1
    stored[first] = redis.call('GETRANGE', stored.key, from, from + CHUNK * size - 1)
  end
  if stored[first] then
    return stored[first], at * size + 1
  end
  return whole(list), stored.offset + place * size + 1
end

-- The moment of a lease, and how many hits it has together with those before it.
local function lease_at(list, i)
  local kind, text, from = list.kind, nil, 1
  if i <= list.body then
    text, from = stored_at(list, (list.skip + i - 1) % list.room)
  else
    text = list.tail[i - list.body]
  end
  local moment, sum = struct.unpack(kind.format, text, from)
  return list.base + moment, (sum - list.start) % kind.wrap
end

local function header_text(list, room, skip)
  return '#' .. struct.pack(
    HEADER, HEADER_SIZE + room * list.kind.size, list.kind.number, skip, list.count, list.base,
    list.start, list.held, list.first, list.last
  )
end

-- The stored leases of a list, in order.
local function body_text(list)
  local size, first, last = list.kind.size, list.skip, list.skip + list.body - 1
  local function places(from, to)
    return from <= to and string.sub(whole(list), list.stored.offset + from * size + 1, list.stored.offset + (to + 1) * size) or ''
  end
  if last < list.room then
    return places(first, last)
  end
  return places(first, list.room - 1) .. places(0, last - list.room)
end

-- The value of a list, with spare places to grow into.
local function list_text(list)
  local spare = 1 + math.floor(list.count / 64)
  local tail = table.concat(list.tail, '', 1, list.more)
  return header_text(list, list.count + spare, 0) .. body_text(list) .. tail .. string.rep('\0', spare * list.kind.size)
end

-- Writes the changed places and the header in place. Returns false if the list has outgrown
-- its ring, or was not read from Redis in part.
local function list_put(list)
  if not list.stored.key or list.room < list.count or MANY < list.more then
    return false
  end
  for i = 1, list.more do
    local place = (list.skip + list.body + i - 1) % list.room
    redis.call('SETRANGE', list.stored.key, list.stored.offset + place * list.kind.size, list.tail[i])
  end
  redis.call('SETRANGE', list.stored.key, 0, header_text(list, list.room, list.skip))
  return true
end
-- The place of the first lease after `moment` that has more than `hits` with those before
-- it; the one behind the last if there is none. It is mostly one of the first.
local function place_after(list, moment, hits)
  local low, high, far = 1, list.count + 1, 1
  while low < high do
    local middle = math.min(math.floor((low + high) / 2), far)
    local granted, held = lease_at(list, middle)
    if moment < granted and hits < held then
      high = middle
    else
      low, far = middle + 1, 2 * middle
    end
  end
  return low
end

local function is_narrow(first, last, held)
  return last - first < NARROW.reach and held < NARROW.wrap
end

-- The leases in `found`, which are in order and have `held` hits, as a list.
local function packed(found, held)
  local base, last, sum, leases = found[1][1], found[#found][1], 0, {}
  local kind = is_narrow(base, last, held) and NARROW or WIDE
  for i, it in ipairs(found) do
    sum = sum + it[2]
    if i == #found or it[1] < found[i + 1][1] then
      leases[#leases + 1] = struct.pack(kind.format, it[1] - base, sum)
    end
  end
  return {
    kind = kind, base = base, start = 0, stored = { text = table.concat(leases), offset = 0 }, room = #leases,
    skip = 0, body = #leases, tail = {}, more = 0, count = #leases, held = held, first = base, last = last,
    write = list_text, put = list_put,
  }
end

-- What was kept before: `granted@hits,` for each lease, and still earlier `end:hits,`.
local function old_list(state, lease)
  local found, length, held = {}, 0, 0
  for granted, mark, hits in string.gmatch(state, '(%d+)([@:])([1-9]%d*),') do
    length = length + #granted + #hits + 2
    granted, hits = tonumber(granted), tonumber(hits)
    if mark == ':' then
      granted = math.max(granted - lease, 0)
    end
    held = held + hits
    if MOST < granted + lease or MOST < held then
      return EMPTY
    end
    found[#found + 1] = { granted, hits }
  end
  if length ~= #state or length == 0 then
    return EMPTY
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return packed(found, held)
end

-- The list with this header. An inconsistent header makes it an empty list.
local function new_list(header, stored)
  if #header <= HEADER_SIZE or string.byte(header) ~= 35 then
    return EMPTY
  end
  local length, number, skip, count, base, start, held, first, last = struct.unpack(HEADER, header, 2)
  local kind = KINDS[number]
  local room = kind and (length - HEADER_SIZE) / kind.size or 0
  -- Each lease has a hit.
  local sound = length + 1 == (stored.text and #stored.text or stored.length) and room % 1 == 0
    and 0 < count and count <= room and skip < room and count <= held and held < kind.wrap
    and start < kind.wrap and base <= first and first <= last and last <= MOST
  if not sound then
    return EMPTY
  end
  return {
    kind = kind, base = base, start = start, stored = stored, room = room, skip = skip, body = count, tail = {},
    more = 0, count = count, held = held, first = first, last = last, write = list_text, put = list_put,
  }
end

-- The lists that this script has read, by lease and value: each is parsed once.
local lists = {}

local function list_in(state, lease)
  if type(state) == 'table' then
    return state
  end
  lists[lease] = lists[lease] or {}
  local list = lists[lease][state]
  if not list then
    if string.byte(state) == 35 then
      list = new_list(state, { text = state, offset = HEADER_SIZE + 1 })
    else
      list = old_list(state, lease)
    end
    lists[lease][state] = list
  end
  return list
end

-- Opens the list under `key`, and reads only its header. Returns what follows the list as well;
-- nil if the value is no list.
local function stored_leases(key)
  local header = redis.pcall('GETRANGE', key, 0, HEADER_SIZE)
  if header == '' then
    return EMPTY
  elseif type(header) ~= 'string' then
    return
  end
  local length, rest = redis.call('STRLEN', key), nil
  local own = #header <= HEADER_SIZE and length or struct.unpack('>I4', header, 2) + 1
  if own < length then
    rest, length = redis.call('GETRANGE', key, own, -1), own
  end
  local list = new_list(header, { key = key, length = length, offset = HEADER_SIZE + 1, reads = 0 })
  if 0 < list.count then
    return list, rest
  end
end

-- The list without the leases before a place.
local function list_from(list, place)
  local kind, gone = list.kind, place - 1
  if gone == 0 then
    return list
  elseif list.count == gone then
    return EMPTY
  end
  local _, hits = lease_at(list, gone)
  local rest = copy(list)
  rest.first = lease_at(list, place)
  rest.count, rest.held = list.count - gone, (list.held - hits) % kind.wrap
  rest.start = wrapped(list.start, hits, kind.wrap)
  local stored = math.min(gone, list.body)
  rest.skip, rest.body, rest.more = (list.skip + stored) % list.room, list.body - stored, list.more - gone + stored
  if stored < gone then
    rest.tail = {}
    for i = 1, rest.more do
      rest.tail[i] = list.tail[gone - stored + i]
    end
  end
  return rest
end

-- The leases that have not ended, and the latest moment that is known.
local function live(list, lease)
  if MOST < list.last + lease then
    return EMPTY, now
  end
  local latest = math.max(list.last, now)
  if list.last + lease <= latest then
    return EMPTY, latest
  end
  if list.count == 0 or latest < list.first + lease then
    return list, latest
  end
  return list_from(list, place_after(list, latest - lease, 0)), latest
end

-- The list with another lease of `hits`, at a `moment` not before the latest. A `fresh` list is
-- not shared yet, and is changed in place.
local function list_with(list, moment, hits, fresh)
  local held = list.held + hits
  local kind = is_narrow(list.count > 0 and list.first or moment, moment, held) and NARROW or WIDE
  if list.kind ~= kind or kind.reach <= moment - list.base then
    local found, before = {}, 0
    for i = 1, list.count do
      local granted, sum = lease_at(list, i)
      found[i], before = { granted, sum - before }, sum
    end
    found[list.count + 1] = { moment, hits }
    return packed(found, held)
  end
  local all = fresh and list or copy(list)
  if all.last ~= moment then
    all.count, all.more = all.count + 1, all.more + 1
  elseif all.more == 0 then
    all.body, all.more = all.body - 1, 1
  end
  if all.tail[all.more] then
    -- The place is taken by another copy, or by the latest lease, which gets more hits.
    local tail = all.tail
    all.tail = {}
    for i = 1, all.more - 1 do
      all.tail[i] = tail[i]
    end
  end
  all.held, all.last = held, moment
  all.tail[all.more] = struct.pack(kind.format, moment - list.base, wrapped(list.start, held, kind.wrap))
  return all
end

-- The list without `hits`, fewer than it has, of the leases that end first.
local function list_without(list, hits)
  local rest = copy(list_from(list, math.min(place_after(list, -1, hits), list.count)))
  hits = hits - (list.held - rest.held)
  rest.start, rest.held = wrapped(rest.start, hits, rest.kind.wrap), rest.held - hits
  return rest
end

-- When `excess` slots are free; 0 if there are not so many, or if none has to be.
local function freed(list, lease, excess)
  if excess <= 0 or list.held < excess then
    return 0
  elseif excess == 1 then
    return list.first + lease
  end
  return lease_at(list, math.min(place_after(list, -1, excess - 1), list.count)) + lease
end

-- What to keep, and how long it means something after `latest`.
local function leases_kept(list, lease, latest)
  if list.count == 0 then
    return '', 0
  end
  return list, life_after(latest, math.max(list.last + lease - latest, 0))
end

local function leases_told(list, lease, free)
  return { list.held, free, list.count > 0 and list.last + lease or 0 }
end

local function leases(state, hits, requests, lease)
  local all = list_in(state, lease)
  local list, latest = live(all, lease)
  local held = list.held
  local before, free = leases_told(list, lease, 0), 0
  if 0 < hits then
    if not forced and requests < held + hits then
      before[2] = freed(list, lease, held - requests + hits)
      return false, before, before
    end
    local added = math.min(hits, MOST - held)
    if 0 < added then
      list = list_with(list, latest, added, list ~= all and 0 < list.count)
    end
    free = freed(list, lease, list.held - requests + hits)
  elseif hits < 0 and held > 0 then
    list = -hits < held and list_without(list, -hits) or EMPTY
  else
    return true, before, before
  end
  return true, before, leases_told(list, lease, free), leases_kept(list, lease, latest)
end

-- The list without `given` of the `own` hits of one lease.
local function list_less(list, place, given, own)
  if list.held == given then
    return EMPTY
  end
  local kind, rest, later = list.kind, copy(list), {}
  for i = given < own and place or place + 1, list.count do
    local moment, sum = lease_at(list, i)
    later[#later + 1] = struct.pack(kind.format, moment - list.base, wrapped(list.start, sum - given, kind.wrap))
  end
  rest.body, rest.tail = math.min(list.body, place - 1), {}
  for i = 1, place - 1 - rest.body do
    rest.tail[i] = list.tail[i]
  end
  for _, it in ipairs(later) do
    rest.tail[#rest.tail + 1] = it
  end
  rest.more = #rest.tail
  if rest.body + rest.more == 0 then
    return EMPTY
  end
  rest.count, rest.held = rest.body + rest.more, list.held - given
  rest.first, rest.last = (lease_at(rest, 1)), (lease_at(rest, rest.count))
  return rest
end

-- The very lease that was granted, of which the end is told.
local function undo_leases(state, hits, _, _, told_last, _, lease)
  local list, latest = live(list_in(state, lease), lease)
  local place = place_after(list, told_last - lease - 1, 0)
  if list.count < place then
    return
  end
  local granted, sum = lease_at(list, place)
  local own = sum
  if 1 < place then
    local _, before = lease_at(list, place - 1)
    own = sum - before
  end
  local given = math.min(hits, own)
  if granted + lease ~= told_last or given <= 0 then
    return
  end
  return leases_kept(list_less(list, place, given, own), lease, latest)
end
