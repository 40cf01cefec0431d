#!/usr/bin/env bash
# The API with nothing but curl (7.76 or newer): a command for each endpoint. Read it, copy from it, or run it:
#
#   export OMS_URL=http://127.0.0.1:5011
#   clients/curl/oms.sh register ada@example.com          # asks for a password, or takes OMS_PASSWORD
#   clients/curl/oms.sh products 'q=lamp'
#   clients/curl/oms.sh place 0c342a24-9ec2-50f6-80a4-da41e5991f6e 2
#   clients/curl/oms.sh help                              # all commands
#
# Answers go to standard output as they come. A refusal is a problem document there, and the exit code is curl's: 22 for
# a refusal, 7 when nobody answers. OMS_CURL are further options of curl: '--include' shows the headers, ETag and
# X-Request-Id among them; '--cacert ca.pem' trusts an authority of your own.
#
# Tokens are kept in OMS_SESSION, readable by their owner alone. No secret is ever an argument of a program, where
# everybody on the machine could see it.
#
# Placing and cancelling carry an Idempotency-Key, a new one each time. Set OMS_KEY to choose it: the same command with
# the same key may be run again after a lost connection, and does nothing twice.
set -euo pipefail
umask 077

url=${OMS_URL:-http://127.0.0.1:5011}
session=${OMS_SESSION:-${XDG_STATE_HOME:-$HOME/.local/state}/oms-session}

# --- accounts

register() { # EMAIL [FIRST_NAME]: a new customer, logged in
  enter register "{\"email\": $(text "$1"), \"password\": $(text "$(password)"),
    \"firstName\": $(text "${2:-Somebody}")}"
}

login() { # EMAIL: log in
  enter login "{\"email\": $(text "$1"), \"password\": $(text "$(password)")}"
}

refresh() { # : the next pair of tokens; the old refresh token is spent by this
  enter refresh "{\"refreshToken\": $(text "$(token refreshToken)")}"
}

logout() { # : end this login
  as_me POST /api/auth/logout
  rm -f "$session"
}

me() { # : my account
  as_me GET /api/auth/me
}

change-user() { # USER_ID JSON: such as '{"role": "staff"}' or '{"active": false}'; for administrators
  as_me PATCH "/api/auth/users/$1" "$2"
}

# --- orders

place() { # PRODUCT_ID [QUANTITY [PAYMENT_METHOD]]: a new order, such as '... 2 pm_declined'
  local line="{\"productId\": $(text "$1"), \"quantity\": ${2:-1}}"
  as_me POST /api/order "{\"items\": [$line], \"paymentMethod\": $(text "${3:-pm_ok}")}" \
    -H "Idempotency-Key: ${OMS_KEY:-$(new_key)}"
}

orders() { # [QUERY]: a page of orders; 'status=Pending&limit=50', and 'cursor=...' from nextCursor for the next page
  as_me GET "/api/order${1:+?$1}"
}

order() { # ORDER_ID [ETAG]: the order; with the ETag of an earlier answer nothing when it is still the same (304)
  as_me GET "/api/order/$1" "" ${2:+-H "If-None-Match: $2"}
}

cancel() { # ORDER_ID [REASON]: the order, cancelled
  as_me POST "/api/order/$1/cancel" "{\"reason\": $(text "${2:-}")}" -H "Idempotency-Key: ${OMS_KEY:-$(new_key)}"
}

ship() { # ORDER_ID [TRACKING]: for staff
  as_me POST "/api/order/$1/ship" "$([ -z "${2:-}" ] || echo "{\"tracking\": $(text "$2")}")"
}

deliver() { # ORDER_ID: for staff
  as_me POST "/api/order/$1/deliver"
}

journey() { # ORDER_ID: what happened to it in every service
  as_me GET "/api/order/$1/journey"
}

follow() { # ORDER_ID [LAST_EVENT_ID]: its history as it happens; a stream that ended early goes on after its last id
  as_me GET "/api/order/$1/events" "" --no-buffer --max-time 0 -H 'Accept: text/event-stream' \
    ${2:+-H "Last-Event-ID: $2"}
}

# --- products and stock

products() { # [QUERY]: a page of the catalogue; 'q=lamp', 'limit=50', 'cursor=...'
  call GET "/api/inventory/products${1:+?$1}"
}

product() { # PRODUCT_ID [ETAG]: as for an order
  call GET "/api/inventory/products/$1" "" ${2:+-H "If-None-Match: $2"}
}

create-product() { # NAME PRICE [DESCRIPTION]: for administrators
  as_me POST /api/inventory/products "{\"name\": $(text "$1"), \"price\": $2, \"description\": $(text "${3:-}")}"
}

change-product() { # PRODUCT_ID JSON [ETAG]: such as '{"price": 12.5}'; with an ETag only if it is still so (else 412)
  as_me PATCH "/api/inventory/products/$1" "$2" ${3:+-H "If-Match: $3"}
}

adjust() { # PRODUCT_ID DELTA REASON: more (3) or fewer (-3) on the shelf; for staff
  as_me POST "/api/inventory/products/$1/stock" "{\"delta\": $2, \"reason\": $(text "$3")}"
}

stock() { # PRODUCT_ID [QUERY]: levels and a page of the ledger; for staff
  as_me GET "/api/inventory/products/$1/stock${2:+?$2}"
}

# --- how it is asked

call() { # METHOD PATH [BODY [OPTION...]]; the body goes over standard input
  local method=$1 path=$2 body=${3:-}
  shift $(($# < 3 ? $# : 3))
  if [ -n "$body" ]; then set -- -H 'Content-Type: application/json' --data-binary @- "$@"; fi
  # shellcheck disable=SC2086 # OMS_CURL is several words
  printf %s "$body" | curl --silent --show-error --fail-with-body --proto '=http,https' --connect-timeout 5 \
    --max-time 30 -X "$method" "$@" ${OMS_CURL:-} "$url$path"
}

as_me() { # as call, with the token of who is logged in
  local authorization
  authorization="Authorization: Bearer $(token token)"
  call "$1" "$2" "${3:-}" "${@:4}" -H @<(printf '%s\n' "$authorization")
}

enter() { # PATH BODY; ask for tokens, keep them, and say who I am now
  local answer code=0
  answer=$(call POST "/api/auth/$1" "$2") || code=$?
  if [ $code -ne 0 ]; then
    printf %s "$answer"
    return $code
  fi
  mkdir -p "$(dirname "$session")"
  printf '%s\n' "$answer" >"$session"
  printf '{"userId":%s}\n' "$(text "$(token userId)")"
}

token() { # NAME; that member of the kept answer
  [ -e "$session" ] || { echo "Nobody is logged in: register or login first." >&2; exit 1; }
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$session"
}

password() { # OMS_PASSWORD, or what is typed in
  local typed=${OMS_PASSWORD:-}
  if [ -z "$typed" ]; then read -rsp 'Password: ' typed </dev/tty && echo >/dev/tty; fi
  printf %s "$typed"
}

new_key() { # one that nobody has used
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

text() { # TEXT; as a JSON string
  local value=$1
  value=${value//\\/\\\\}
  value=${value//\"/\\\"}
  value=${value//$'\n'/\\n}
  value=${value//$'\t'/\\t}
  value=${value//$'\r'/\\r}
  printf '"%s"' "$value"
}

help() { # every command, with what it takes
  sed -n 's/^\([a-z-]*\)() { # \(.*:.*\)/\1 \2/p' "${BASH_SOURCE[0]}" | sed 's/ : /: /'
}

usage() { # COMMAND; its line of that list
  help | grep "^$1[ :]"
}

if [ $# -eq 0 ] || [ "$1" = help ]; then
  help
elif ! line=$(usage "$1"); then
  echo "There is no command $1; help lists them." >&2
  exit 2
elif needed=${line%%[:[]*} && [ $# -lt "$(wc -w <<<"$needed")" ]; then
  echo "$line" >&2
  exit 2
else
  "$@"
fi
