-- The filter that a user would write in place of the plugin, and the benchmark's yardstick.
--
-- It does what can be done on the hot path in a few lines: authority check, `/sns/` check, the caller's path kept for
-- the access log, the rewrite, and a look at the first 256 bytes of a JSON answer for the errcodes of a dead token.
-- The token is a constant: fetching, sharing and renewing it is left out, which flatters Lua.

local TOKEN = "@TOKEN@"

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":authority") ~= "api.weixin.qq.com" then
    return
  end
  local path = headers:get(":path")
  if path:sub(1, 5) == "/sns/" or path:find("access_token=", 1, true) then
    return
  end
  headers:replace("x-envoy-original-path", path)
  local mark = path:find("?", 1, true) and "&" or "?"
  headers:replace(":path", path .. mark .. "access_token=" .. TOKEN)
end

function envoy_on_response(handle)
  local kind = handle:headers():get("content-type")
  if kind == nil or not kind:find("json", 1, true) then
    return
  end
  local body = handle:body()
  if body == nil then
    return
  end
  local head = body:getBytes(0, math.min(body:length(), 256))
  local errcode = head:match('"errcode"%s*:%s*"?(%-?%d+)')
  if errcode == "40001" or errcode == "40014" or errcode == "42001" then
    handle:headers():replace("x-wechat-token-retry", "1")
  end
end
