/*
 * One libsrtp2 session over packets in hexadecimal, one a line, from standard input to standard output.
 * Arguments: protect|unprotect, suite, master key and salt in hexadecimal.
 */
#include <srtp2/srtp.h>
#include <stdio.h>
#include <string.h>

#define PACKET_BYTES 2048

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Bytes that `text` says, up to its end or the end of the line. */
static int unhex(const char *text, unsigned char *out, int room)
{
    int length = 0;

    while (text[0] > ' ' && text[1] > ' ' && length < room) {
        out[length++] = (unsigned char)(digit(text[0]) << 4 | digit(text[1]));
        text += 2;
    }
    return length;
}

/* The suite by its name; 0 if this build of libsrtp does not have it. */
static int set_suite(srtp_crypto_policy_t *policy, const char *name)
{
    if (strcmp(name, "cm-128-80") == 0)
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_80(policy);
    else if (strcmp(name, "cm-128-32") == 0)
        srtp_crypto_policy_set_aes_cm_128_hmac_sha1_32(policy);
    else if (strcmp(name, "cm-256-80") == 0)
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_80(policy);
    else if (strcmp(name, "cm-256-32") == 0)
        srtp_crypto_policy_set_aes_cm_256_hmac_sha1_32(policy);
    else if (strcmp(name, "gcm-128") == 0)
        srtp_crypto_policy_set_aes_gcm_128_16_auth(policy);
    else if (strcmp(name, "gcm-256") == 0)
        srtp_crypto_policy_set_aes_gcm_256_16_auth(policy);
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    static char line[2 * PACKET_BYTES + 2];
    static unsigned char packet[PACKET_BYTES] __attribute__((aligned(8)));
    unsigned char key[SRTP_MAX_KEY_LEN] = {0};
    srtp_policy_t policy;
    srtp_t session;
    int protect;

    if (argc != 4 || unhex(argv[3], key, sizeof key) < 28)
        return 2;
    protect = strcmp(argv[1], "protect") == 0;
    memset(&policy, 0, sizeof policy);
    if (!set_suite(&policy.rtp, argv[2]) || !set_suite(&policy.rtcp, argv[2]))
        return 2;
    policy.ssrc.type = protect ? ssrc_any_outbound : ssrc_any_inbound;
    policy.key = key;
    policy.window_size = 128;
    if (srtp_init() != srtp_err_status_ok || srtp_create(&session, &policy) != srtp_err_status_ok)
        return 3;
    while (fgets(line, sizeof line, stdin)) {
        int length = unhex(line, packet, PACKET_BYTES - SRTP_MAX_TRAILER_LEN);
        srtp_err_status_t status =
            protect ? srtp_protect(session, packet, &length) : srtp_unprotect(session, packet, &length);
        int k;

        if (status != srtp_err_status_ok) {
            printf("error %d\n", status);
            continue;
        }
        for (k = 0; k < length; k++)
            printf("%02x", packet[k]);
        putchar('\n');
    }
    return 0;
}
