-- If the counter's name contains the window, `start` is 0 and the state is an integer, which any
-- client may change by INCRBY. Otherwise the state is `start:count`. `rest` is the time until the
-- window ends.
local function fixed_window_state(state, start)
  if start == 0 then
    if string.find(state, '^%-?%d+$') then
      -- Another client may have written a value out of range.
      return 0, math.min(math.max(tonumber(state), 0), MAX_NUMBER)
    end
    return 0, 0
  end
  local began, count = numbers(state, 2)
  if began and start <= began then
    return began, count
  end
  return start, 0
end

local function fixed_window_text(began, count)
  return began == 0 and text(count) or text(began) .. ':' .. text(count)
end

local function fixed_window(state, hits, requests, count_denied, start, length, rest)
  local began, before = fixed_window_state(state, start)
  local after, passes = math.max(before + hits, 0), true
  if 0 <= hits then
    after = math.min(after, MAX_NUMBER)
    passes = forced or after <= requests
    if not passes and count_denied == 0 then
      after = before
    end
  end
  local life = began == start and rest or life_after(began, length)
  return passes, { began, before }, { began, after }, after ~= before and fixed_window_text(began, after), life
end

local function undo_fixed_window(state, hits, granted_start, _, _, _, _, start, length, rest)
  local began, count = fixed_window_state(state, start)
  if began == granted_start and 0 < math.min(count, hits) then
    return fixed_window_text(began, math.max(count - hits, 0)), began == start and rest or life_after(began, length)
  end
end
