/* The floor of the media benchmark: what a transcoded or relayed call costs one C thread that does nothing else.
 *
 * SRTP Opus <-> RTP G.722, both ways, with the libraries our worker uses (libsrtp, libopus at 16 kHz, mono, audio mode,
 * complexity 5; libspandsp). No ICE, no DTLS, no RTCP, no statistics, no reordering, no concealment: keys are given.
 *
 * media_floor CALLS CODEC; stdin has a line for each call: PORT PHONE KEY KEY (base64; theirs to us, ours to them), stdout
 * one: PORT PEER_PORT. Ends at the end of stdin.
 */
#include <arpa/inet.h>
#include <opus/opus.h>
#include <spandsp.h>
#include <srtp2/srtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { RATE = 16000, FRAME = 320, BITRATE = 32000, BATCH = 64 };

struct leg { int fd; struct sockaddr_in remote; };
struct call {
  struct leg web, pbx;
  srtp_t in, out;
  OpusDecoder *decoder; OpusEncoder *encoder;
  g722_decode_state_t *g722_decoder; g722_encode_state_t *g722_encoder;
};

static int opus;

static int octets(const char *text, unsigned char *to) {
  static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  int length = 0, bits = 0, value = 0;
  for (; *text && *text != '='; text++) {
    value = value << 6 | (int)(strchr(set, *text) - set);
    if ((bits += 6) >= 8) to[length++] = value >> (bits -= 8) & 255;
  }
  return length;
}

static srtp_t session(const char *key, srtp_ssrc_type_t direction) {
  static unsigned char master[64];
  srtp_policy_t policy; srtp_t made;
  memset(&policy, 0, sizeof policy);
  srtp_crypto_policy_set_rtp_default(&policy.rtp);
  srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
  policy.ssrc.type = direction;
  octets(key, master);
  policy.key = master;
  if (srtp_create(&made, &policy)) exit(2);
  return made;
}

static void open_leg(struct leg *leg, int port) {
  socklen_t size = sizeof leg->remote;
  leg->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  memset(&leg->remote, 0, size);
  leg->remote.sin_family = AF_INET;
  leg->remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(leg->fd, (struct sockaddr *)&leg->remote, size)) exit(3);
  leg->remote.sin_port = htons(port);
}

static int port_of(struct leg *leg) {
  struct sockaddr_in own; socklen_t size = sizeof own;
  getsockname(leg->fd, (struct sockaddr *)&own, &size);
  return ntohs(own.sin_port);
}

static void send_to(struct leg *leg, unsigned char *packet, int size) {
  sendto(leg->fd, packet, size, 0, (struct sockaddr *)&leg->remote, sizeof leg->remote);
}

static void header(unsigned char *packet, int type, unsigned stamp_from, unsigned numerator, unsigned denominator) {
  unsigned stamp = htonl(stamp_from / denominator * numerator);
  packet[1] = (packet[1] & 128) | type;
  memcpy(packet + 4, &stamp, 4);
}

static unsigned stamp(unsigned char *packet) {
  unsigned value; memcpy(&value, packet + 4, 4); return ntohl(value);
}

static void from_web(struct call *call) {
  unsigned char packet[2048]; int16_t pcm[FRAME * 6]; int size;
  while ((size = recv(call->web.fd, packet, sizeof packet, 0)) > 0) {
    if (srtp_unprotect(call->in, packet, &size)) continue;
    if (opus) {
      int samples = opus_decode(call->decoder, packet + 12, size - 12, pcm, FRAME * 6, 0);
      if (samples < 0) continue;
      size = 12 + g722_encode(call->g722_encoder, packet + 12, pcm, samples);
      header(packet, 9, stamp(packet), 1, 6);
    }
    send_to(&call->pbx, packet, size);
  }
}

static void from_pbx(struct call *call) {
  unsigned char packet[2048]; int16_t pcm[2048]; int size;
  while ((size = recv(call->pbx.fd, packet, 700, 0)) > 12) {
    if (opus) {
      int samples = g722_decode(call->g722_decoder, pcm, packet + 12, size - 12);
      size = opus_encode(call->encoder, pcm, samples, packet + 12, 1200);
      if (size < 0) continue;
      size += 12;
      header(packet, 111, stamp(packet), 6, 1);
    }
    if (srtp_protect(call->out, packet, &size)) continue;
    send_to(&call->web, packet, size);
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  int calls = atoi(argv[1]), error, epoll = epoll_create1(0);
  struct call *all = calloc(calls, sizeof *all);
  struct epoll_event event = {.events = EPOLLIN}, events[BATCH];
  opus = !strcmp(argv[2], "opus");
  srtp_init();
  for (int i = 0; i < calls; i++) {
    struct call *call = all + i; int web, phone; char theirs[64], ours[64];
    if (scanf("%d %d %63s %63s", &web, &phone, theirs, ours) != 4) return 1;
    open_leg(&call->web, web);
    open_leg(&call->pbx, phone);
    call->in = session(theirs, ssrc_any_inbound);
    call->out = session(ours, ssrc_any_outbound);
    call->decoder = opus_decoder_create(RATE, 1, &error);
    call->encoder = opus_encoder_create(RATE, 1, OPUS_APPLICATION_AUDIO, &error);
    opus_encoder_ctl(call->encoder, OPUS_SET_BITRATE(BITRATE));
    opus_encoder_ctl(call->encoder, OPUS_SET_COMPLEXITY(5));
    opus_encoder_ctl(call->encoder, OPUS_SET_VBR_CONSTRAINT(0));
    call->g722_decoder = g722_decode_init(NULL, 64000, 0);
    call->g722_encoder = g722_encode_init(NULL, 64000, 0);
    event.data.u32 = 2 * i;
    epoll_ctl(epoll, EPOLL_CTL_ADD, call->web.fd, &event);
    event.data.u32 = 2 * i + 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, call->pbx.fd, &event);
    printf("%d %d\n", port_of(&call->web), port_of(&call->pbx));
  }
  fflush(stdout);
  event.data.u32 = 2 * calls;
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  for (;;) {
    int ready = epoll_wait(epoll, events, BATCH, -1);
    for (int i = 0; i < ready; i++) {
      unsigned which = events[i].data.u32;
      if (which == 2u * calls) return 0;
      if (which % 2) from_pbx(all + which / 2); else from_web(all + which / 2);
    }
  }
}
